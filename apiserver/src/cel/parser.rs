//! From text to tree. The tree is bounded: how long the text is, how deep brackets go, how deep the tree gets.
//!
//! What a macro stands for is [`super::macros`]'; long chains of `&&` and `||` become balanced trees.

use super::ast::{Entry, Kind, Literal, Node};
use super::lexer::{Spanned, Token, tokens};
use super::macros;
use super::source::Issue;

/// Characters of an expression at most, as cel-go has it.
pub const MAX_CODE_POINTS: usize = 100_000;
/// Brackets within brackets at most: each costs a few frames of the stack.
const MAX_NESTING: u32 = 80;
/// How deep a tree may be: checking and evaluating it recurse.
pub const MAX_DEPTH: u32 = 250;
/// What may begin an expression, as ANTLR lists it.
const BEGINNING: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
/// Words that nothing can be called.
pub const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Parses an expression.
///
/// # Errors
/// What is wrong with it, never empty.
pub fn parse(source: &str) -> Result<Node, Vec<Issue>> {
    let size = source.chars().count();
    if size > MAX_CODE_POINTS {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_CODE_POINTS}");
        return Err(vec![Issue { at: 0, message }]);
    }
    let mut parser = Parser { tokens: tokens(source)?, next: 0, nesting: 0 };
    let parsed = parser.expression().and_then(|node| match parser.peek() {
        Token::End => Ok(node),
        // ANTLR forgives one word too many before it gives up.
        _ => {
            let what = if parser.next + 2 == parser.tokens.len() { "extraneous" } else { "mismatched" };
            Err(parser.wrong(&format!("{what} input '{}' expecting <EOF>", parser.text())))
        }
    });
    parsed.map_err(|issue| vec![issue])
}

struct Parser {
    tokens: Vec<Spanned>,
    next: usize,
    nesting: u32,
}

type Parsed = Result<Node, Issue>;

/// An operator, its function and how tightly it binds.
const BINARY: [(&str, &str, u8); 12] = [
    ("<", "_<_", 1),
    ("<=", "_<=_", 1),
    (">=", "_>=_", 1),
    (">", "_>_", 1),
    ("==", "_==_", 1),
    ("!=", "_!=_", 1),
    ("in", "@in", 1),
    ("+", "_+_", 2),
    ("-", "_-_", 2),
    ("*", "_*_", 3),
    ("/", "_/_", 3),
    ("%", "_%_", 3),
];

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].token
    }
    fn at(&self) -> u32 {
        self.tokens[self.next].at
    }
    fn text(&self) -> &str {
        &self.tokens[self.next].text
    }
    /// The last word is the end, which is never passed.
    fn advance(&mut self) {
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }
    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(s) if *s == symbol)
    }
    fn accept(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.advance();
        }
        found
    }
    fn expect(&mut self, symbol: &str) -> Result<(), Issue> {
        if self.accept(symbol) { Ok(()) } else { Err(self.wrong(&format!("missing '{symbol}' at '{}'", self.text()))) }
    }
    fn wrong(&self, message: &str) -> Issue {
        Issue { at: self.at(), message: format!("Syntax error: {message}") }
    }

    /// A node that is not too deep.
    fn node(&self, at: u32, kind: Kind) -> Parsed {
        bounded(Node::new(at, kind))
    }

    fn expression(&mut self) -> Parsed {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(Issue { at: self.at(), message: format!("expression recursion limit exceeded: {MAX_NESTING}") });
        }
        let condition = self.logical("||", "_||_")?;
        let at = self.at();
        let node = if self.accept("?") {
            let then = self.logical("||", "_||_")?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            bounded(Node::call(at, "_?_:_", vec![condition, then, otherwise]))?
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(node)
    }

    /// Terms of `||`, or of `&&` within.
    fn logical(&mut self, symbol: &'static str, function: &str) -> Parsed {
        let mut terms = vec![];
        let mut places = vec![];
        loop {
            terms.push(if symbol == "||" { self.logical("&&", "_&&_")? } else { self.binary(1)? });
            let at = self.at();
            if !self.accept(symbol) {
                break;
            }
            places.push(at);
        }
        bounded(balance(function, &mut terms.into_iter(), &places))
    }

    fn binary(&mut self, level: u8) -> Parsed {
        if level > 3 {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        loop {
            let symbol = match self.peek() {
                Token::Symbol(s) => *s,
                Token::Ident(name) if name == "in" => "in",
                _ => return Ok(left),
            };
            let Some((_, function, _)) = BINARY.iter().find(|(s, _, l)| *s == symbol && *l == level) else { return Ok(left) };
            let at = self.at();
            self.advance();
            let right = self.binary(level + 1)?;
            left = bounded(Node::call(at, function, vec![left, right]))?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        let symbol = if self.is("!") { "!" } else { "-" };
        let mut count = 0;
        while self.accept(symbol) {
            count += 1;
        }
        if count % 2 == 1 && symbol == "-" {
            let negated = match self.peek() {
                Token::Literal(Literal::Int(v)) => Some(Literal::Int(v.wrapping_neg())),
                Token::Literal(Literal::Double(v)) => Some(Literal::Double(-v)),
                _ => None,
            };
            if let Some(literal) = negated {
                self.advance();
                return self.postfix(Node::literal(at, literal));
            }
        }
        let operand = self.primary()?;
        let operand = self.postfix(operand)?;
        match (count % 2, symbol) {
            (0, _) => Ok(operand),
            (_, "!") => bounded(Node::call(at, "!_", vec![operand])),
            _ => bounded(Node::call(at, "-_", vec![operand])),
        }
    }

    fn postfix(&mut self, mut node: Node) -> Parsed {
        loop {
            let at = self.at();
            if self.accept(".") {
                let optional = self.accept("?");
                let escaped = matches!(self.peek(), Token::Escaped(_));
                let name = self.name(true)?;
                let open = self.at();
                if optional {
                    node = Node::call(at, "_?._", vec![node, Node::literal(at, Literal::String(name))]);
                } else if !escaped && self.accept("(") {
                    let args = self.arguments(")")?;
                    node = macros::member(open, node, &name, args)?;
                } else {
                    node = Node::new(at, Kind::Select { operand: Box::new(node), field: name, test: false });
                }
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = self.expression()?;
                self.expect("]")?;
                node = Node::call(at, if optional { "_[?_]" } else { "_[_]" }, vec![node, index]);
            } else if self.is("{")
                && let Some(name) = node.qualified_name()
            {
                self.advance();
                node = self.message(at, name)?;
            } else {
                return Ok(node);
            }
            node = bounded(node)?;
        }
    }

    fn name(&mut self, field: bool) -> Result<String, Issue> {
        let name = match self.peek() {
            Token::Ident(name) if !matches!(name.as_str(), "in" | "true" | "false" | "null") => name.clone(),
            Token::Escaped(name) if field => name.clone(),
            _ => return Err(self.wrong(&format!("mismatched input '{}' expecting IDENTIFIER", self.text()))),
        };
        self.advance();
        Ok(name)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        match self.peek().clone() {
            Token::Literal(literal) => {
                if literal == Literal::Int(i64::MIN) {
                    return Err(Issue { at, message: "invalid int literal".to_owned() });
                }
                self.advance();
                Ok(Node::literal(at, literal))
            }
            Token::Ident(name) => {
                let literal = match name.as_str() {
                    "true" => Some(Literal::Bool(true)),
                    "false" => Some(Literal::Bool(false)),
                    "null" => Some(Literal::Null),
                    _ => None,
                };
                if let Some(literal) = literal {
                    self.advance();
                    return Ok(Node::literal(at, literal));
                }
                self.identifier(at)
            }
            Token::Symbol(".") => {
                self.advance();
                self.identifier(at)
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => {
                self.advance();
                let items = self.items()?;
                self.node(at, Kind::List(items))
            }
            Token::Symbol("{") => {
                self.advance();
                let entries = self.entries()?;
                self.node(at, Kind::Map(entries))
            }
            _ => Err(self.wrong(&format!("mismatched input '{}' expecting {BEGINNING}", self.text()))),
        }
    }

    fn identifier(&mut self, at: u32) -> Parsed {
        let name = match self.peek() {
            Token::Ident(name) if name != "in" => name.clone(),
            _ => return Err(self.wrong(&format!("mismatched input '{}' expecting {BEGINNING}", self.text()))),
        };
        if RESERVED.contains(&name.as_str()) {
            return Err(Issue { at, message: format!("reserved identifier: {name}") });
        }
        self.advance();
        let open = self.at();
        if self.accept("(") {
            let args = self.arguments(")")?;
            return bounded(macros::global(open, &name, args)?);
        }
        Ok(Node::ident(at, &name))
    }

    fn arguments(&mut self, close: &str) -> Result<Vec<Node>, Issue> {
        let mut out = vec![];
        if self.accept(close) {
            return Ok(out);
        }
        loop {
            out.push(self.expression()?);
            if !self.accept(",") {
                self.expect(close)?;
                return Ok(out);
            }
        }
    }

    fn items(&mut self) -> Result<Vec<(Node, bool)>, Issue> {
        let mut out = vec![];
        while !self.accept("]") {
            let optional = self.accept("?");
            out.push((self.expression()?, optional));
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(out)
    }

    fn entries(&mut self) -> Result<Vec<Entry>, Issue> {
        let mut out = vec![];
        while !self.accept("}") {
            let optional = self.accept("?");
            let key = self.expression()?;
            self.expect(":")?;
            let value = self.expression()?;
            out.push(Entry { key, value, optional });
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(out)
    }

    fn message(&mut self, at: u32, name: String) -> Parsed {
        let mut fields = vec![];
        while !self.accept("}") {
            let optional = self.accept("?");
            let field = self.name(true)?;
            let colon = self.at();
            self.expect(":")?;
            fields.push((field, colon, self.expression()?, optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Kind::Struct { name, fields })
    }
}

fn bounded(node: Node) -> Parsed {
    if node.depth > MAX_DEPTH {
        return Err(Issue { at: node.at, message: format!("expression recursion limit exceeded: {MAX_DEPTH}") });
    }
    Ok(node)
}

/// A tree of terms with the operators between them, as shallow as can be.
fn balance(function: &str, terms: &mut dyn Iterator<Item = Node>, places: &[u32]) -> Node {
    let Some((at, middle)) = places.get(places.len() / 2).map(|at| (*at, places.len() / 2)) else {
        return terms.next().expect("there is one more term than operators");
    };
    let left = balance(function, terms, &places[..middle]);
    let right = balance(function, terms, &places[middle + 1..]);
    Node::call(at, function, vec![left, right])
}
