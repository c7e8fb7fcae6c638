//! Inputs out of inputs: bytes are changed blindly, and what is JSON is changed as a tree.

use serde_json::{Map, Value, json};

use super::INPUT_MAX;

/// xorshift64*: the same seed gives the same inputs.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or(0) % n.max(1)
    }
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What stands between the parts of an input that has several.
pub const SEPARATOR: &[u8] = b"\n---\n";

/// Pieces of text that mean something to somebody.
const TOKENS: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "9223372036854775808",
    "18446744073709551616",
    "\u{0}",
    "\u{feff}",
    "é",
    "\u{10ffff}",
    "\\u0000",
    "\\ud800",
    "%",
    "%2F",
    "%00",
    "+",
    "&",
    "=",
    "==",
    "!=",
    "!",
    " in (",
    ")",
    " notin ",
    ">",
    "<",
    "/",
    "//",
    "..",
    ".",
    "*",
    "$patch",
    "delete",
    "replace",
    "merge",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "f:",
    "k:{}",
    "v:1",
    "i:0",
    "~0",
    "~1",
    "-",
    "Ki",
    "Mi",
    "Ei",
    "m",
    "n",
    "e3",
    "E",
    "1.5",
    "0.0000000001",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "|\n",
    "- ",
    "? ",
    "---\n",
    "metadata",
    "name",
    "labels",
    "annotations",
    "managedFields",
    "finalizers",
    "ownerReferences",
    "spec",
    "status",
    "containers",
    "@.",
    "?(",
    "[*]",
    "[-1]",
    "[0:2]",
    "range",
    "k8s\u{0}",
    "watch=1",
    "limit=",
    "continue=",
    "resourceVersion=",
    "fieldSelector=",
    "labelSelector=",
    "/api/v1/",
    "/apis/",
    "namespaces/",
];

/// A new input out of the old ones. `parts`: how many parts the target takes apart at [`SEPARATOR`].
pub fn input(pool: &[Vec<u8>], random: &mut Random, parts: usize) -> Vec<u8> {
    let mut input = random.pick(pool).clone();
    for _ in 0..=random.below(4) {
        if random.below(2) == 0 {
            tree(&mut input, pool, random, parts);
        } else {
            bytes(&mut input, pool, random);
        }
    }
    input.truncate(INPUT_MAX);
    input
}

fn bytes(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let to = (at + random.below(16) + 1).min(input.len());
    match random.below(8) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 => drop(input.drain(at..to)),
        2 => {
            let again = input[at..to].to_vec();
            let times = 1 + random.below(40);
            drop(input.splice(at..at, again.repeat(times)));
        }
        3 => input.insert(at, u8::try_from(random.below(256)).unwrap_or(0)),
        4 => input.truncate(at),
        5 => {
            let other = random.pick(pool);
            let from = random.below(other.len() + 1);
            let piece = other[from..(from + random.below(200)).min(other.len())].to_vec();
            drop(input.splice(at..at, piece));
        }
        _ => drop(input.splice(at..at, random.pick(TOKENS).bytes())),
    }
}

/// The parts of an input.
#[must_use]
pub fn split(input: &[u8], parts: usize) -> Vec<&[u8]> {
    let (mut out, mut rest) = (vec![], input);
    while out.len() + 1 < parts
        && let Some(at) = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR)
    {
        out.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    out.push(rest);
    out
}

fn tree(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random, parts: usize) {
    let mut pieces: Vec<Vec<u8>> = split(input, parts).into_iter().map(<[u8]>::to_vec).collect();
    let which = random.below(pieces.len());
    let Ok(mut value) = serde_json::from_slice::<Value>(&pieces[which]) else { return bytes(input, pool, random) };
    let mut left = random.below(count(&value));
    let other: &Vec<u8> = random.pick(pool);
    let donor = split(other, parts).iter().find_map(|p| serde_json::from_slice::<Value>(p).ok());
    change(&mut value, &mut left, random, donor.as_ref());
    pieces[which] = value.to_string().into_bytes();
    *input = pieces.join(SEPARATOR);
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the node that `left` counts down to.
fn change(value: &mut Value, left: &mut usize, random: &mut Random, donor: Option<&Value>) -> bool {
    if *left == 0 {
        mutate(value, random, donor);
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|i| change(i, left, random, donor)),
        Value::Object(fields) => fields.values_mut().any(|f| change(f, left, random, donor)),
        _ => false,
    }
}

fn mutate(value: &mut Value, random: &mut Random, donor: Option<&Value>) {
    let some = |random: &mut Random| match random.below(12) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([]),
        3 => json!(""),
        4 => json!(-1),
        5 => json!(i64::MAX),
        6 => json!(1.5e300),
        7 => json!(true),
        8 => json!("x".repeat(300)),
        9 => donor.cloned().unwrap_or_default(),
        10 => donor.map_or(Value::Null, |d| nth(d, random.below(count(d))).clone()),
        _ => Value::from(*random.pick(TOKENS)),
    };
    match (random.below(6), &mut *value) {
        (0..2, Value::Array(items)) if !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(3) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => items.reverse(),
            }
        }
        (0..3, Value::Object(fields)) if !fields.is_empty() => {
            let name = fields.keys().nth(random.below(fields.len())).cloned().unwrap_or_default();
            let old = fields.remove(&name).unwrap_or_default();
            match random.below(3) {
                0 => {}
                1 => drop(fields.insert((*random.pick(TOKENS)).to_owned(), old)),
                _ => drop(fields.insert(name, some(random))),
            }
        }
        (3, _) => {
            // Deeper, sometimes much.
            let depth = if random.below(20) == 0 { 140 } else { 1 + random.below(3) };
            for _ in 0..depth {
                let inner = std::mem::take(value);
                *value = if random.below(2) == 0 { json!([inner]) } else { Map::from_iter([("a".to_owned(), inner)]).into() };
            }
        }
        (4, Value::String(text)) => {
            let at = (0..=text.len()).rev().find(|i| *i <= random.below(text.len() + 1) && text.is_char_boundary(*i)).unwrap_or(0);
            let token: &&str = random.pick(TOKENS);
            text.insert_str(at, token);
        }
        _ => *value = some(random),
    }
}

fn nth(value: &Value, mut n: usize) -> &Value {
    if n == 0 {
        return value;
    }
    n -= 1;
    let below: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => vec![],
    };
    for inner in below {
        let size = count(inner);
        if n < size {
            return nth(inner, n);
        }
        n -= size;
    }
    value
}
