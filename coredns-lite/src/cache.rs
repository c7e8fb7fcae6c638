//! Answers from upstream, kept for as long as they say, in bounded memory.
//!
//! Two generations: what is used moves to the young one; when that is full it becomes the old one, and the old one is
//! forgotten. So at most twice `capacity` answers are kept, and those that are asked for often stay.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::rr::{LowerName, RecordType};

use crate::forward::Reply;

/// An answer is kept no longer than this, as CoreDNS is usually configured (`cache 30`).
const LONGEST: Duration = Duration::from_secs(30);

/// What was asked.
pub type Asked = (LowerName, RecordType);

/// The cache.
#[derive(Debug)]
pub struct Cache {
    young: HashMap<Asked, Kept>,
    old: HashMap<Asked, Kept>,
    capacity: usize,
}

#[derive(Debug)]
struct Kept {
    reply: Reply,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// An empty cache; with no capacity it stays empty.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), capacity: capacity / 2 }
    }

    /// The answer that is kept, with the time to live that it has left.
    pub fn get(&mut self, asked: &Asked, now: Instant) -> Option<Reply> {
        if let Some(kept) = self.old.remove(asked) {
            self.insert(asked.clone(), kept);
        }
        let kept = self.young.get(asked).filter(|k| k.until > now)?;
        let passed = u32::try_from(now.duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let mut reply = kept.reply.clone();
        for record in reply.records.iter_mut().chain(&mut reply.soa) {
            record.ttl = record.ttl.saturating_sub(passed);
        }
        Some(reply)
    }

    /// Keeps an answer for as long as all of it holds.
    pub fn put(&mut self, asked: Asked, reply: Reply, now: Instant) {
        let lasts = reply.lasts().min(LONGEST);
        if !lasts.is_zero() {
            self.insert(asked, Kept { reply, since: now, until: now + lasts });
        }
    }

    fn insert(&mut self, asked: Asked, kept: Kept) {
        if self.capacity == 0 {
            return;
        }
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(asked, kept);
    }

    /// How many answers are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record};

    fn asked(n: usize) -> Asked {
        (Name::from_ascii(format!("n{n}.example.")).unwrap().into(), RecordType::A)
    }

    fn reply(ttl: u32) -> Reply {
        let record = Record::from_rdata(Name::root(), ttl, RData::A(A::new(1, 2, 3, 4)));
        Reply { code: ResponseCode::NoError, records: vec![record], soa: None }
    }

    #[test]
    fn an_answer_grows_old_and_goes() {
        let mut cache = Cache::new(10);
        let start = Instant::now();
        cache.put(asked(1), reply(20), start);
        let ttl = |cache: &mut Cache, secs| cache.get(&asked(1), start + Duration::from_secs(secs)).map(|r| r.records[0].ttl);
        assert_eq!(ttl(&mut cache, 0), Some(20));
        assert_eq!(ttl(&mut cache, 5), Some(15));
        assert_eq!(ttl(&mut cache, 20), None);
    }

    #[test]
    fn what_must_not_be_kept_is_not() {
        let mut cache = Cache::new(10);
        cache.put(asked(1), reply(0), Instant::now());
        assert!(cache.is_empty());
    }

    #[test]
    fn nothing_is_kept_for_long() {
        let mut cache = Cache::new(10);
        let start = Instant::now();
        cache.put(asked(1), reply(86_400), start);
        assert!(cache.get(&asked(1), start + LONGEST).is_none());
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut cache = Cache::new(10);
        let now = Instant::now();
        cache.put(asked(0), reply(30), now);
        for n in 1..100 {
            cache.put(asked(n), reply(30), now);
            assert!(cache.get(&asked(0), now).is_some(), "asked for all the time, gone at {n}");
            assert!(cache.len() <= 10);
        }
        assert!(cache.get(&asked(1), now).is_none());
    }
}
