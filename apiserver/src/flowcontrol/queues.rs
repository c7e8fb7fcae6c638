//! Who runs, who waits, who is refused: the state of every priority level. Pure: it is told what happens, and answers with what may run.
//!
//! A level that has waiting requests starts them before new ones, from the queue that was served least. A flow chooses among a few of the
//! queues by its hash (shuffle sharding), so that a flood fills its own and leaves others' short. Seats that a level does not use are lent,
//! but for those it keeps for itself: the seats in use, and those kept, never exceed what there are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::config::{Config, Response};
use super::seats::{Limits, shared_out};

/// A request that runs or waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its number.
    pub id: u64,
    /// Its level.
    pub level: Arc<str>,
    /// How many seats it takes.
    pub width: usize,
    /// The queue it waits in, when it waits.
    queue: usize,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It runs now.
    Runs(Ticket),
    /// It waits.
    Waits(Ticket),
    /// It is refused; the reason in upstream's words.
    Refused(&'static str),
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(u64, usize)>,
    /// Seats that wait.
    seats: usize,
    /// The level's virtual time at which its next request is due.
    due: f64,
}

#[derive(Debug)]
struct Level {
    limits: Limits,
    response: Response,
    /// Seats in use.
    used: usize,
    /// Requests that wait.
    waiting: usize,
    queues: Vec<Queue>,
    /// Grows with what is served: the time by which queues are compared.
    time: f64,
}

/// The state of every level.
#[derive(Debug, Default)]
pub struct Queues {
    levels: BTreeMap<Arc<str>, Level>,
    total: usize,
    last: u64,
}

impl Level {
    /// What others have to leave to it.
    fn held(&self, used: usize) -> usize {
        used.max(self.limits.least)
    }

    /// The queue of a flow: the one with the least waiting among those it is dealt.
    fn queue_of(&self, mut flow: u64, queues: usize, hand: usize) -> usize {
        let mut dealt: Vec<usize> = Vec::with_capacity(hand);
        for i in 0..hand {
            let left = (queues - i) as u64;
            let mut card = usize::try_from(flow % left).unwrap_or(0);
            flow /= left;
            // The card counts among those not dealt yet.
            let mut before = dealt.clone();
            before.sort_unstable();
            for taken in before {
                card += usize::from(taken <= card);
            }
            dealt.push(card);
        }
        dealt.into_iter().min_by_key(|i| self.queues.get(*i).map_or(0, |q| q.seats)).unwrap_or(0)
    }

    /// The queue to be served next.
    fn next(&self) -> Option<usize> {
        let waiting = self.queues.iter().enumerate().filter(|(_, q)| !q.waiting.is_empty());
        waiting.min_by(|(_, a), (_, b)| a.due.total_cmp(&b.due)).map(|(i, _)| i)
    }

    fn head_width(&self) -> Option<usize> {
        self.next().and_then(|i| self.queues[i].waiting.front()).map(|(_, width)| *width)
    }
}

impl Queues {
    /// Takes over a configuration. What runs and waits goes on; a level that is gone is forgotten when it is idle.
    pub fn configure(&mut self, config: &Config, total: usize) {
        let limits = shared_out(config, total);
        self.total = limits.values().map(|l| l.nominal).sum();
        for (name, limits) in &limits {
            let response = config.levels[name].response;
            match self.levels.get_mut(name) {
                Some(level) => (level.limits, level.response) = (*limits, response),
                None => {
                    let level = Level { limits: *limits, response, used: 0, waiting: 0, queues: vec![], time: 0.0 };
                    self.levels.insert(name.clone(), level);
                }
            }
        }
        self.levels.retain(|name, level| limits.contains_key(name) || level.used > 0 || level.waiting > 0);
        for (name, level) in &mut self.levels {
            if !limits.contains_key(name) {
                level.limits = Limits { nominal: 1, least: 0, most: usize::MAX };
            }
        }
    }

    /// Whether a level may use so many seats more.
    fn fits(&self, name: &str, width: usize) -> bool {
        let Some(level) = self.levels.get(name) else { return true };
        let used = level.used + width;
        let others: usize = self.levels.iter().filter(|(n, _)| &***n != name).map(|(_, l)| l.held(l.used)).sum();
        used <= level.limits.most && others + level.held(used) <= self.total
    }

    /// A request of a level comes. `width` is how many seats it takes, cut to what its level has.
    pub fn arrive(&mut self, name: &Arc<str>, flow: u64, width: usize) -> Arrival {
        let Some(level) = self.levels.get(name) else { return Arrival::Refused("concurrency-limit") };
        let width = width.clamp(1, level.limits.nominal.max(1));
        let runs = level.waiting == 0 && self.fits(name, width);
        let id = self.last + 1;
        let Some(level) = self.levels.get_mut(name) else { return Arrival::Refused("concurrency-limit") };
        let mut ticket = Ticket { id, level: name.clone(), width, queue: 0 };
        if runs {
            level.used += width;
            self.last = id;
            return Arrival::Runs(ticket);
        }
        let Response::Queue { queues, hand, length } = level.response else { return Arrival::Refused("concurrency-limit") };
        ticket.queue = level.queue_of(flow, queues, hand);
        if level.queues.len() <= ticket.queue {
            level.queues.resize_with(ticket.queue + 1, Queue::default);
        }
        let queue = &mut level.queues[ticket.queue];
        if queue.waiting.len() >= length {
            return Arrival::Refused("queue-full");
        }
        if queue.waiting.is_empty() {
            // A queue that was empty has saved nothing up.
            queue.due = queue.due.max(level.time);
        }
        queue.waiting.push_back((id, width));
        queue.seats += width;
        level.waiting += 1;
        self.last = id;
        Arrival::Waits(ticket)
    }

    /// A request that waits gives up. `false` when it was started meanwhile: then it has to finish.
    pub fn give_up(&mut self, ticket: &Ticket) -> bool {
        let Some(level) = self.levels.get_mut(&ticket.level) else { return false };
        let Some(queue) = level.queues.get_mut(ticket.queue) else { return false };
        let Some(at) = queue.waiting.iter().position(|(id, _)| *id == ticket.id) else { return false };
        queue.waiting.remove(at);
        queue.seats -= ticket.width;
        level.waiting -= 1;
        true
    }

    /// A request that ran has ended.
    pub fn finish(&mut self, ticket: &Ticket) {
        if let Some(level) = self.levels.get_mut(&ticket.level) {
            level.used = level.used.saturating_sub(ticket.width);
        }
    }

    /// Starts what waits and fits now; the level that uses the least of its share comes first. Gives the numbers of the started.
    pub fn start(&mut self) -> Vec<u64> {
        let mut started = vec![];
        loop {
            #[allow(clippy::cast_precision_loss)] // seats are few
            let load = |l: &Level| l.used as f64 / l.limits.nominal.max(1) as f64;
            let waiting = self.levels.iter().filter(|(name, l)| l.head_width().is_some_and(|width| self.fits(name, width)));
            let Some(name) = waiting.min_by(|a, b| load(a.1).total_cmp(&load(b.1))).map(|(name, _)| name.clone()) else { return started };
            let Some(level) = self.levels.get_mut(&name) else { return started };
            let Some(next) = level.next() else { return started };
            let queue = &mut level.queues[next];
            let Some((id, width)) = queue.waiting.pop_front() else { return started };
            queue.seats -= width;
            level.time = level.time.max(queue.due);
            queue.due += f64::from(u32::try_from(width).unwrap_or(u32::MAX));
            level.used += width;
            level.waiting -= 1;
            started.push(id);
        }
    }

    /// Level, nominal seats, seats in use, requests that wait.
    pub fn levels(&self) -> impl Iterator<Item = (&Arc<str>, usize, usize, usize)> {
        self.levels.iter().map(|(name, l)| (name, l.limits.nominal, l.used, l.waiting))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn level(name: &str, shares: u64, lendable: u64, queues: u64) -> Value {
        let response = match queues {
            0 => json!({"type": "Reject"}),
            queues => json!({"type": "Queue", "queuing": {"queues": queues, "handSize": 2.min(queues), "queueLengthLimit": 3}}),
        };
        json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}}})
    }

    fn queues(levels: &[Value], total: usize) -> Queues {
        let mut queues = Queues::default();
        queues.configure(&Config::compile([].iter(), levels.iter()), total);
        queues
    }

    fn run(queues: &mut Queues, level: &str, flow: u64) -> Result<Ticket, String> {
        match queues.arrive(&level.into(), flow, 1) {
            Arrival::Runs(ticket) => Ok(ticket),
            Arrival::Waits(ticket) => Err(format!("waits {}", ticket.id)),
            Arrival::Refused(why) => Err(why.to_owned()),
        }
    }

    #[test]
    fn a_flood_borrows_what_is_lent_and_no_more() {
        let mut q = queues(&[level("low", 1, 0, 1), level("high", 1, 50, 0)], 8);
        let floods = (0..9).filter(|_| run(&mut q, "low", 7).is_ok()).count();
        assert_eq!(floods, 6, "its own four and the two that the other lends");
        let high: Vec<bool> = (0..3).map(|_| run(&mut q, "high", 1).is_ok()).collect();
        assert_eq!(high, [true, true, false], "what is kept back is there");
        assert_eq!(run(&mut q, "high", 1), Err("concurrency-limit".into()));
    }

    #[test]
    fn a_queue_has_an_end_and_is_served_in_order() {
        let mut q = queues(&[level("low", 1, 0, 1)], 1);
        let first = run(&mut q, "low", 7).unwrap();
        for i in 2..5 {
            assert_eq!(run(&mut q, "low", 7), Err(format!("waits {i}")));
        }
        assert_eq!(run(&mut q, "low", 7), Err("queue-full".into()));
        assert!(q.start().is_empty());
        q.finish(&first);
        assert_eq!(q.start(), [2]);
        let gone = Ticket { id: 3, level: "low".into(), width: 1, queue: 0 };
        assert!(q.give_up(&gone) && !q.give_up(&gone));
        q.finish(&Ticket { id: 2, ..gone });
        assert_eq!(q.start(), [4]);
    }

    #[test]
    fn flows_take_turns() {
        let mut q = queues(&[level("low", 1, 0, 16)], 1);
        let running = run(&mut q, "low", 0).unwrap();
        // Two flows that are dealt different queues.
        let (mut noisy, mut quiet) = (vec![], vec![]);
        for _ in 0..4 {
            if let Arrival::Waits(t) = q.arrive(&"low".into(), 3, 1) {
                noisy.push(t.id);
            }
        }
        if let Arrival::Waits(t) = q.arrive(&"low".into(), 8, 1) {
            quiet.push(t.id);
        }
        q.finish(&running);
        let mut order = vec![];
        for _ in 0..5 {
            let started = q.start();
            order.extend(started.iter().copied());
            for id in started {
                q.finish(&Ticket { id, level: "low".into(), width: 1, queue: 0 });
            }
        }
        let at = order.iter().position(|id| quiet.contains(id)).unwrap();
        assert!(at <= 2, "the quiet flow came {at} of {order:?}");
        assert_eq!(order.len(), noisy.len() + quiet.len());
    }

    #[test]
    fn a_level_that_goes_ends_what_it_began() {
        let mut q = queues(&[level("a", 1, 0, 1), level("b", 1, 0, 1)], 2);
        let ticket = run(&mut q, "a", 0).unwrap();
        q.configure(&Config::compile([].iter(), [level("b", 1, 0, 1)].iter()), 2);
        assert_eq!(q.levels().count(), 2);
        q.finish(&ticket);
        q.configure(&Config::compile([].iter(), [level("b", 1, 0, 1)].iter()), 2);
        assert_eq!(q.levels().map(|l| l.0.to_string()).collect::<Vec<_>>(), ["b"]);
    }

    proptest! {
        #[test]
        fn seats_are_never_given_twice_and_nobody_is_forgotten(steps in prop::collection::vec((0u8..4, 0u64..5, 1usize..4), 1..200)) {
            let names = ["a", "b", "c"];
            let mut q = queues(&[level("a", 1, 50, 4), level("b", 2, 100, 8), level("c", 3, 0, 0)], 9);
            let total = q.total;
            let (mut running, mut waiting): (Vec<Ticket>, Vec<Ticket>) = (vec![], vec![]);
            for (what, flow, width) in steps {
                match what {
                    0 if !running.is_empty() => {
                        let done = running.remove(usize::try_from(flow).unwrap() % running.len());
                        q.finish(&done);
                    }
                    1 if !waiting.is_empty() => {
                        let gone = waiting.remove(usize::try_from(flow).unwrap() % waiting.len());
                        prop_assert!(q.give_up(&gone));
                    }
                    _ => match q.arrive(&names[width % 3].into(), flow, width) {
                        Arrival::Runs(t) => running.push(t),
                        Arrival::Waits(t) => waiting.push(t),
                        Arrival::Refused(_) => {}
                    },
                }
                for id in q.start() {
                    let at = waiting.iter().position(|t| t.id == id).expect("what is started waited");
                    running.push(waiting.remove(at));
                }
                let used: usize = q.levels().map(|l| l.2).sum();
                prop_assert_eq!(used, running.iter().map(|t| t.width).sum::<usize>());
                prop_assert!(used <= total);
                prop_assert_eq!(q.levels().map(|l| l.3).sum::<usize>(), waiting.len());
            }
            // When everything ends, whoever waits is started.
            while !running.is_empty() {
                for t in running.drain(..) {
                    q.finish(&t);
                }
                for id in q.start() {
                    let at = waiting.iter().position(|t| t.id == id).expect("what is started waited");
                    running.push(waiting.remove(at));
                }
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
