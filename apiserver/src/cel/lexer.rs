//! An expression's words.

use super::ast::Literal;
use super::source::Issue;

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name, or a word that the grammar knows (`in`, `true`).
    Ident(String),
    /// A name in backticks.
    Escaped(String),
    /// A number, text or bytes.
    Literal(Literal),
    /// An operator or bracket.
    Symbol(&'static str),
    /// The end.
    End,
}

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned {
    /// The offset in characters.
    pub at: u32,
    /// The word.
    pub token: Token,
    /// As written.
    pub text: String,
}

/// Longer ones first.
const SYMBOLS: [&str; 25] =
    ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")", "[", "]", "{", "}", "="];

/// Takes an expression apart.
///
/// # Errors
/// The first that is no word.
pub fn tokens(source: &str) -> Result<Vec<Spanned>, Vec<Issue>> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let mut out = vec![];
    loop {
        lexer.skip();
        let at = lexer.at;
        match lexer.token() {
            Ok(token) => {
                let end = token == Token::End;
                let text = if end { "<EOF>".to_owned() } else { lexer.chars[at..lexer.at].iter().collect() };
                out.push(Spanned { at: at as u32, token, text });
                if end {
                    break;
                }
            }
            Err(message) => {
                return Err(vec![Issue { at: at as u32, message }]);
            }
        }
    }
    Ok(out)
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip(&mut self) {
        loop {
            match self.peek(0) {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' => self.at += 1,
                '/' if self.peek(1) == '/' => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn token(&mut self) -> Result<Token, String> {
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        let first = self.peek(0);
        if let Some(prefix) = self.string_prefix() {
            return self.string(prefix);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let start = self.at;
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
                self.at += 1;
            }
            return Ok(Token::Ident(self.chars[start..self.at].iter().collect()));
        }
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if first == '`' {
            return self.escaped();
        }
        for symbol in SYMBOLS {
            if symbol.chars().enumerate().all(|(i, c)| self.peek(i) == c) {
                if symbol == "=" {
                    break;
                }
                self.at += symbol.len();
                return Ok(Token::Symbol(symbol));
            }
        }
        Err(format!("Syntax error: token recognition error at: '{first}'"))
    }

    fn escaped(&mut self) -> Result<Token, String> {
        let start = self.at + 1;
        let mut end = start;
        while self.chars.get(end).is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ')) {
            end += 1;
        }
        if end == start || self.chars.get(end) != Some(&'`') {
            return Err("Syntax error: token recognition error at: '`'".to_owned());
        }
        self.at = end + 1;
        Ok(Token::Escaped(self.chars[start..end].iter().collect()))
    }

    fn number(&mut self) -> Result<Token, String> {
        let start = self.at;
        let hexadecimal = self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') && self.peek(2).is_ascii_hexdigit();
        let mut double = false;
        if hexadecimal {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
        } else {
            self.digits();
            if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
                double = true;
                self.at += 1;
                self.digits();
            }
            let signed = usize::from(matches!(self.peek(1), '+' | '-'));
            if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + signed).is_ascii_digit() {
                double = true;
                self.at += 1 + signed;
                self.digits();
            }
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if double {
            return text.parse().map(|d| Token::Literal(Literal::Double(d))).map_err(|_| "invalid double literal".to_owned());
        }
        let (digits, radix) = if hexadecimal { (&text[2..], 16) } else { (&text[..], 10) };
        let value = u128::from_str_radix(digits, radix);
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            let value = value.ok().and_then(|v| u64::try_from(v).ok());
            return value.map(|v| Token::Literal(Literal::Uint(v))).ok_or_else(|| "invalid uint literal".to_owned());
        }
        // One more than the greatest is the least, once it is negated.
        match value.ok().filter(|v| *v <= i64::MAX as u128 + 1) {
            Some(v) if v == i64::MAX as u128 + 1 => Ok(Token::Literal(Literal::Int(i64::MIN))),
            Some(v) => Ok(Token::Literal(Literal::Int(i64::try_from(v).unwrap_or(i64::MAX)))),
            None => Err("invalid int literal".to_owned()),
        }
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
    }

    /// How many letters stand before the quotation mark of a string.
    fn string_prefix(&self) -> Option<usize> {
        (0..3).find(|n| matches!(self.peek(*n), '"' | '\'')).filter(|n| {
            let mut letters: Vec<char> = (0..*n).map(|i| self.peek(i).to_ascii_lowercase()).collect();
            letters.sort_unstable();
            matches!(letters.as_slice(), [] | ['r'] | ['b'] | ['b', 'r'])
        })
    }

    fn string(&mut self, prefix: usize) -> Result<Token, String> {
        let has = |l: char| (0..prefix).any(|i| self.peek(i).to_ascii_lowercase() == l);
        let (raw, bytes) = (has('r'), has('b'));
        let start = self.at;
        self.at += prefix;
        let quote = self.peek(0);
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let mut out: Vec<u8> = vec![];
        loop {
            let c = self.peek(0);
            if self.at >= self.chars.len() || (!triple && matches!(c, '\n' | '\r')) {
                let text: String = self.chars[start..self.at].iter().collect();
                return Err(format!("Syntax error: token recognition error at: '{}'", text.escape_debug()));
            }
            if c == quote && (!triple || (self.peek(1) == quote && self.peek(2) == quote)) {
                self.at += width;
                break;
            }
            if c == '\\' && !raw {
                self.escape(bytes, &mut out)?;
            } else {
                // A backslash in raw text keeps what follows from ending it.
                if c == '\\' && self.at + 1 < self.chars.len() && self.peek(1) == quote {
                    out.push(b'\\');
                    self.at += 1;
                }
                let mut buffer = [0; 4];
                out.extend(self.peek(0).encode_utf8(&mut buffer).as_bytes());
                self.at += 1;
            }
        }
        if bytes {
            return Ok(Token::Literal(Literal::Bytes(out)));
        }
        String::from_utf8(out).map(|s| Token::Literal(Literal::String(s))).map_err(|_| "invalid string literal".to_owned())
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let letter = self.peek(1);
        let plain = match letter {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '\'' | '"' | '`' | '?' => Some(letter as u8),
            _ => None,
        };
        if let Some(byte) = plain {
            out.push(byte);
            self.at += 2;
            return Ok(());
        }
        let (skip, count, radix) = match letter {
            'x' | 'X' => (2, 2, 16),
            'u' => (2, 4, 16),
            'U' => (2, 8, 16),
            '0'..='3' => (1, 3, 8),
            _ => return Err(format!("Syntax error: token recognition error at: '\\{}'", letter.escape_debug())),
        };
        let digits: String = (0..count).map(|i| self.peek(skip + i)).collect();
        let code = u32::from_str_radix(&digits, radix).map_err(|_| "unable to unescape string".to_owned())?;
        self.at += skip + count;
        if bytes && count <= 3 {
            out.push(u8::try_from(code).map_err(|_| "unable to unescape string".to_owned())?);
            return Ok(());
        }
        let c = char::from_u32(code).filter(|_| !bytes).ok_or_else(|| "unable to unescape string".to_owned())?;
        let mut buffer = [0; 4];
        out.extend(c.encode_utf8(&mut buffer).as_bytes());
        Ok(())
    }
}
