//! One scheduling cycle: which node for this pod?
//!
//! [`schedule`] is a plain function of the pod and the snapshot. It filters nodes in turn until enough fit, scores those, and
//! picks one of the best. Start reading here.

use std::collections::BTreeSet;

use crate::diagnosis::Diagnosis;
use crate::identity::NodeName;
use crate::node::Node;
use crate::plugins::{Filter, Plugin, PreFilter, Refusal};
use crate::pod::Pod;
use crate::snapshot::Snapshot;

/// What a cycle decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The pod goes to this node.
    Place {
        /// The node.
        node: NodeName,
        /// How many nodes were looked at; the next search starts after them.
        evaluated: usize,
    },
    /// The pod fits nowhere.
    Refuse(Diagnosis),
}

/// What a cycle leaves to chance or to its caller's memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chance {
    /// Where the search starts, so that all nodes have their turn.
    pub start: usize,
    /// Chooses between equally good nodes.
    pub tie: u64,
}

/// In clusters no larger than this, and among at least so many, all nodes that fit are scored.
const ENOUGH: usize = 100;

/// How many fitting nodes are enough to choose from: all in small clusters, then half of them going down to a twentieth.
#[must_use]
pub fn enough_of(nodes: usize) -> usize {
    if nodes < ENOUGH {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ENOUGH)
}

/// Decides where `pod` goes.
#[must_use]
pub fn schedule(plugins: &[&dyn Plugin], pod: &Pod, snapshot: &Snapshot, chance: Chance) -> Decision {
    let mut diagnosis = Diagnosis { nodes: snapshot.len(), ..Diagnosis::default() };
    let search = match Search::new(plugins, pod, snapshot) {
        Ok(search) => search,
        Err((plugin, refusal)) => {
            diagnosis.plugins.insert(plugin);
            diagnosis.pod = Some(refusal);
            return Decision::Refuse(diagnosis);
        }
    };
    // Where room was made for it, it goes if it can.
    if let Some(node) = pod.nominated.as_ref().and_then(|name| snapshot.node(name.as_str()))
        && search.allows(node)
        && search.judge(node).is_ok()
    {
        return Decision::Place { node: node.name().clone(), evaluated: 0 };
    }
    let enough = enough_of(snapshot.len());
    let mut fitting = Vec::<&Node>::new();
    for node in snapshot.in_turn(chance.start).filter(|n| search.allows(n)) {
        match search.judge(node) {
            Ok(()) => fitting.push(node),
            Err((plugin, refusal)) => {
                diagnosis.plugins.insert(plugin);
                diagnosis.refused.push((node.name().clone(), refusal));
            }
        }
        if fitting.len() >= enough {
            break;
        }
    }
    let evaluated = fitting.len() + diagnosis.refused.len();
    let best = match fitting[..] {
        [] => None,
        [only] => Some(only),
        _ => Some(best_of(plugins, pod, snapshot, &fitting, chance.tie)),
    };
    if let Some(node) = best {
        return Decision::Place { node: node.name().clone(), evaluated };
    }
    if let Some((plugin, _)) = &search.only {
        diagnosis.plugins.insert(plugin);
        diagnosis.others = Some(format!("node(s) didn't satisfy plugin(s) [{plugin}]"));
    }
    Decision::Refuse(diagnosis)
}

/// Whether `pod` would fit on this node of this world.
///
/// # Errors
/// Why not.
pub fn fits(plugins: &[&dyn Plugin], pod: &Pod, world: &Snapshot, node: &NodeName) -> Result<(), Refusal> {
    let search = Search::new(plugins, pod, world).map_err(|(_, refusal)| refusal)?;
    let Some(node) = world.node(node.as_str()) else { return Err(Refusal::for_good("node not found")) };
    search.judge(node).map_err(|(_, refusal)| refusal)
}

/// The filters for one pod, in the world as it is and in the world in which the nominated pods have come.
struct Search<'a> {
    pod: &'a Pod,
    world: &'a Snapshot,
    plugins: &'a [&'a dyn Plugin],
    filters: Vec<(&'static str, Filter<'a>)>,
    only: Option<(&'static str, BTreeSet<&'a str>)>,
}

type Refused = (&'static str, Refusal);

impl<'a> Search<'a> {
    fn new(plugins: &'a [&'a dyn Plugin], pod: &'a Pod, world: &'a Snapshot) -> Result<Self, Refused> {
        let mut search = Self { pod, world, plugins, filters: Vec::with_capacity(plugins.len()), only: None };
        for plugin in plugins {
            match plugin.pre_filter(pod, world) {
                PreFilter::Skip => {}
                PreFilter::Filter(filter) => search.filters.push((plugin.name(), filter)),
                PreFilter::Only(names, filter) => {
                    search.only = Some(match search.only {
                        None => (plugin.name(), names),
                        Some((first, others)) => (first, others.intersection(&names).copied().collect()),
                    });
                    search.filters.push((plugin.name(), filter));
                }
                PreFilter::Refuse(refusal) => return Err((plugin.name(), refusal)),
            }
        }
        Ok(search)
    }

    /// Whether the node needs to be judged at all.
    fn allows(&self, node: &Node) -> bool {
        self.only.as_ref().is_none_or(|(_, names)| names.contains(node.name().as_str()))
    }

    fn judge(&self, node: &Node) -> Result<(), Refused> {
        self.judge_as_it_is(node)?;
        // Room that was made for others is theirs; but they may not come, so the pod must fit without them too.
        let mut coming = self.world.nominated(node.name(), self.pod).peekable();
        if coming.peek().is_none() {
            return Ok(());
        }
        let mut later = self.world.clone();
        for other in coming {
            later.add_pod(node.name(), other.clone());
        }
        let search = Search::new(self.plugins, self.pod, &later)?;
        later.node(node.name().as_str()).map_or(Ok(()), |node| search.judge_as_it_is(node))
    }

    fn judge_as_it_is(&self, node: &Node) -> Result<(), Refused> {
        self.filters.iter().try_for_each(|(plugin, filter)| filter(node).map_err(|refusal| (*plugin, refusal)))
    }
}

/// The node with the highest sum of weighted scores; chance decides between equals.
fn best_of<'n>(plugins: &[&dyn Plugin], pod: &Pod, snapshot: &Snapshot, nodes: &[&'n Node], tie: u64) -> &'n Node {
    let mut totals = vec![0; nodes.len()];
    for plugin in plugins {
        if let Some(scores) = plugin.score(pod, snapshot, nodes) {
            let weight = plugin.weight();
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
        }
    }
    let most = totals.iter().copied().max().unwrap_or(0);
    let best = || totals.iter().zip(nodes).filter(|(total, _)| **total == most).map(|(_, node)| *node);
    let chosen = usize::try_from(tie % best().count() as u64).unwrap_or(0);
    best().nth(chosen).unwrap_or(nodes[0])
}
