//! Event filters: Amazon EventBridge event patterns, matched against an event's `data`.
//!
//! The rules are those of the EventBridge user guide ("Event pattern syntax" and "Comparison
//! operators for use in event patterns"), and where the guide is silent those of AWS's Event Ruler:
//!
//! * Every field that a pattern names must match; of the alternatives in a field's list one must.
//! * Strings are compared character by character, numbers by their spelling: `300` is not `300.0`.
//!   `numeric` compares values, and only those from −5.0e9 to 5.0e9.
//! * A list in the event matches when one of its elements does. Two fields of a pattern never match
//!   in different elements of one list.
//! * `exists` looks at strings, numbers, `true`, `false` and `null`; an object or an empty list does
//!   not exist in this sense.
//! * `a.b` and `b` inside of `a` are the same field, in patterns and in events.
//!
//! EventBridge uses only the last of two lists for one field. Where one of them is in a `$or`
//! and the other outside, such a pattern is refused here.
//!
//! Three crates were considered: `quamina` has no `$or` and no `anything-but` with `prefix`,
//! `suffix` or `wildcard`, `event-ruler` is empty, and `aws-sdk-eventbridge` asks AWS.
//!
//! A match never fails and costs at most (operators of the pattern) × (bytes of the data): nothing
//! backtracks, and `$or` is not expanded.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::{Bound, RangeBounds as _};

use ipnet::IpNet;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::json::{Data, compact};
use crate::limits::{FILTER_BYTES, JSON_DEPTH};

/// The largest absolute value that `numeric` compares.
const NUMERIC_MAX: f64 = 5.0e9;
/// Names that `$or` does not accept as fields, because they are, or may become, operators.
const RESERVED_IN_OR: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];
/// The bytes of the owner's text that an error repeats, at most.
const QUOTE_BYTES: usize = 128;

/// A pattern that is valid, with the text its owner gave.
#[derive(Clone)]
pub struct Filter {
    text: String,
    pattern: Node,
    names: HashSet<String>,
}

/// Why a text is not an event pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a valid event pattern: {at} {problem}")]
pub struct FilterError {
    /// The place, as a JSON pointer in backticks, or "the pattern" for all of it.
    pub at: String,
    /// What is wrong there, as the end of a sentence that begins with the place.
    pub problem: String,
}

impl Filter {
    /// Reads a pattern, which may have at most [`FILTER_BYTES`] bytes as compact JSON.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut path = Path::default();
        let raw: &RawValue = serde_json::from_str(text)
            .map_err(|error| path.error(format!("is not JSON: {error}")))?;
        let too_deep = || format!("must not nest more than {JSON_DEPTH} levels deep");
        let text = compact(raw.get()).map_err(|_| path.error(too_deep()))?;
        if text.len() > FILTER_BYTES {
            return Err(path.error(format!("must be at most {FILTER_BYTES} bytes as compact JSON")));
        }
        let tree =
            Reader { names: None }.read(&text, 1).map_err(|TooDeep| path.error(too_deep()))?;
        let Tree::Object(fields) = tree else {
            return Err(path.error("must be an object"));
        };
        let pattern = object(&fields, &mut path, false)?;
        let mut names = HashSet::new();
        pattern.collect_names(&mut names);
        Ok(Self { pattern: Node::Object(pattern), names, text })
    }

    /// The pattern as its owner wrote it, in the one spelling of JSON texts here.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether an event with this `data` matches.
    pub fn matches(&self, data: &Data) -> bool {
        Reader { names: Some(&self.names) }
            .read(data.as_str(), 1)
            .is_ok_and(|tree| self.pattern.find(Some(&tree)) != Found::No)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.text)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.text.clone()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

// ---- The pattern ----------------------------------------------------------------------------

/// What a pattern demands at one place of the event.
#[derive(Clone, Debug)]
enum Node {
    Object(Object),
    Values(Values),
}

/// Every field, and one of the alternatives of `$or`, must match.
#[derive(Clone, Debug)]
struct Object {
    fields: Vec<(String, Node)>,
    any_of: Option<Vec<Object>>,
}

/// One of these must match.
#[derive(Clone, Debug, Default)]
struct Values {
    strings: BTreeSet<String>,
    /// Numbers by their spelling, `true`, `false` and `null`.
    literals: BTreeSet<String>,
    tests: Vec<Test>,
    /// `{"exists": false}` is among the alternatives.
    absent: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Text(TextTest),
    Numeric(Range),
    Cidr(IpNet),
    NotStrings(BTreeSet<String>),
    NotNumbers(Vec<f64>),
    NotTexts(Vec<TextTest>),
}

/// A test of a string. What ignores case is kept in lower case.
#[derive(Clone, Debug)]
enum TextTest {
    Prefix(String),
    PrefixIgnoreCase(String),
    Suffix(String),
    SuffixIgnoreCase(String),
    EqualsIgnoreCase(String),
    Wildcard(Vec<String>),
}

type Range = (Bound<f64>, Bound<f64>);

/// How a part of a pattern fares. `Absent` is a match by absence alone: in a list of objects it
/// counts only when it holds for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    No,
    Absent,
    Present,
}

impl Node {
    fn find(&self, value: Option<&Tree<'_>>) -> Found {
        match (self, value) {
            (_, Some(Tree::Array(items))) => self.find_in(items),
            (Self::Object(object), Some(Tree::Object(fields))) => object.find(Some(fields)),
            (Self::Object(object), _) => object.find(None),
            (Self::Values(values), None | Some(Tree::Object(_))) => {
                if values.absent {
                    Found::Absent
                } else {
                    Found::No
                }
            }
            (Self::Values(values), Some(scalar)) => {
                if values.accept(scalar) {
                    Found::Present
                } else {
                    Found::No
                }
            }
        }
    }
    fn find_in(&self, items: &[Tree<'_>]) -> Found {
        if items.is_empty() {
            return self.find(None);
        }
        let mut all = Found::Absent;
        for item in items {
            match self.find(Some(item)) {
                Found::Present => return Found::Present,
                found => all = all.min(found),
            }
        }
        all
    }
}

impl Object {
    fn find(&self, fields: Option<&Fields<'_>>) -> Found {
        let mut found = Found::Absent;
        for (name, node) in &self.fields {
            let items = fields.and_then(|fields| fields.get(name)).map_or(&[][..], Vec::as_slice);
            match node.find_in(items) {
                Found::No => return Found::No,
                one => found = found.max(one),
            }
        }
        let Some(any_of) = &self.any_of else {
            return found;
        };
        let best = any_of.iter().map(|object| object.find(fields)).max().unwrap_or(Found::No);
        if best == Found::No { Found::No } else { found.max(best) }
    }

    fn collect_names(&self, names: &mut HashSet<String>) {
        for (name, node) in &self.fields {
            names.insert(name.clone());
            if let Node::Object(object) = node {
                object.collect_names(names);
            }
        }
        self.any_of.iter().flatten().for_each(|object| object.collect_names(names));
    }
}

impl Values {
    fn accept(&self, scalar: &Tree<'_>) -> bool {
        let listed = match scalar {
            Tree::String(text) => self.strings.contains(text),
            Tree::Literal(text) | Tree::Number(text, _) => self.literals.contains(*text),
            Tree::Array(_) | Tree::Object(_) => false,
        };
        listed || self.tests.iter().any(|test| test.accepts(scalar))
    }
}

impl Test {
    fn accepts(&self, scalar: &Tree<'_>) -> bool {
        match (self, scalar) {
            (Self::Text(test), Tree::String(text)) => test.accepts(text),
            (Self::Numeric(range), Tree::Number(_, value)) => {
                value.abs() <= NUMERIC_MAX && range.contains(value)
            }
            (Self::Cidr(block), Tree::String(text)) => {
                text.parse::<IpAddr>().is_ok_and(|address| block.contains(&address))
            }
            (Self::NotStrings(strings), Tree::String(text)) => !strings.contains(text),
            (Self::NotNumbers(numbers), Tree::Number(_, value)) => {
                numbers.binary_search_by(|number| number.total_cmp(value)).is_err()
            }
            (Self::NotTexts(tests), Tree::String(text)) => {
                !tests.iter().any(|test| test.accepts(text))
            }
            (Self::Exists | Self::NotStrings(_) | Self::NotNumbers(_) | Self::NotTexts(_), _) => {
                true
            }
            (Self::Text(_) | Self::Numeric(_) | Self::Cidr(_), _) => false,
        }
    }
}

impl TextTest {
    fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::PrefixIgnoreCase(prefix) => {
                let mut chars = lower_case(text);
                prefix.chars().all(|c| chars.next() == Some(c))
            }
            Self::SuffixIgnoreCase(suffix) => {
                let mut chars = lower_case(text).rev();
                suffix.chars().rev().all(|c| chars.next() == Some(c))
            }
            Self::EqualsIgnoreCase(other) => lower_case(text).eq(other.chars()),
            Self::Wildcard(parts) => matches_wildcard(parts, text),
        }
    }
}

/// Lower case, character by character: unlike [`str::to_lowercase`] it does not depend on what
/// surrounds a character, so that prefixes and suffixes agree with the whole.
fn lower_case(text: &str) -> impl DoubleEndedIterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

/// Whether the parts occur in `text` in this order, the first at its start and the last at its end.
/// The leftmost place for each part in between leaves the most for those after it, so that nothing
/// has to be tried twice.
fn matches_wildcard(parts: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = parts else {
        return parts.first().is_some_and(|only| only == text);
    };
    if text.len() < parts.iter().map(String::len).sum() {
        return false;
    }
    let Some(mut rest) =
        text.strip_prefix(first.as_str()).and_then(|t| t.strip_suffix(last.as_str()))
    else {
        return false;
    };
    for part in middle {
        let Some(at) = rest.find(part.as_str()) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    true
}

// ---- Reading a pattern ----------------------------------------------------------------------

/// Where the reader of a pattern is.
#[derive(Default)]
struct Path {
    steps: Vec<String>,
    /// The fields that have been named and must match together with what follows.
    named: Vec<String>,
}

impl Path {
    /// Goes one step down while `read` runs.
    fn with<T>(&mut self, step: impl fmt::Display, read: impl FnOnce(&mut Self) -> T) -> T {
        self.steps.push(step.to_string());
        let result = read(self);
        self.steps.pop();
        result
    }

    /// Notes that this field has values to match. Of two such lists for one field EventBridge uses
    /// the last; where one of them is an alternative, no reader would expect that.
    fn name_field(&mut self) -> Result<(), FilterError> {
        let mut steps = self.steps.iter();
        let mut field = String::new();
        while let Some(step) = steps.next() {
            match step.as_str() {
                "$or" => _ = steps.next(),
                name => field = field + name + ".",
            }
        }
        if self.named.contains(&field) {
            return Err(self.error("is named outside of this `$or` too"));
        }
        self.named.push(field);
        Ok(())
    }

    fn error(&self, problem: impl Into<String>) -> FilterError {
        let steps = self.steps.iter().map(|step| step.replace('~', "~0").replace('/', "~1"));
        let pointer: String = steps.flat_map(|step| ["/".to_owned(), step]).collect();
        let at = match self.steps.as_slice() {
            [] => "the pattern".to_owned(),
            _ => format!("`{}`", quote(&pointer)),
        };
        FilterError { at, problem: problem.into() }
    }
}

/// The beginning of what the owner wrote.
fn quote(text: &str) -> String {
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > QUOTE_BYTES) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn object(fields: &Fields<'_>, path: &mut Path, in_or: bool) -> Result<Object, FilterError> {
    if fields.is_empty() {
        return Err(path.error("must name at least one field"));
    }
    let mut result = Object { fields: Vec::new(), any_of: None };
    for (name, trees) in fields.iter().filter(|(name, _)| *name != "$or") {
        path.with(name, |path| {
            if in_or && RESERVED_IN_OR.contains(&name.as_str()) {
                return Err(
                    path.error("is the name of an operator, which cannot be a field in `$or`")
                );
            }
            for tree in trees {
                let node = match tree {
                    Tree::Object(fields) => Node::Object(object(fields, path, in_or)?),
                    Tree::Array(items) => {
                        path.name_field()?;
                        Node::Values(values(items, path)?)
                    }
                    _ => return Err(path.error("must be a list of values or an object")),
                };
                result.fields.push((name.clone(), node));
            }
            Ok(())
        })?;
    }
    if let Some(trees) = fields.get("$or") {
        result.any_of = Some(path.with("$or", |path| any_of(trees, path))?);
    }
    Ok(result)
}

fn any_of(trees: &[Tree<'_>], path: &mut Path) -> Result<Vec<Object>, FilterError> {
    let items = match trees {
        [Tree::Array(items)] if items.len() >= 2 => items,
        _ => return Err(path.error("must be a list of at least two objects")),
    };
    let mut alternatives = Vec::new();
    let mut named = Vec::new();
    let outside = path.named.len();
    for (at, item) in items.iter().enumerate() {
        let Tree::Object(fields) = item else {
            return path.with(at, |path| Err(path.error("must be an object")));
        };
        alternatives.push(path.with(at, |path| object(fields, path, true))?);
        // Alternatives may name the same field.
        named.extend(path.named.drain(outside..));
    }
    path.named.append(&mut named);
    Ok(alternatives)
}

fn values(items: &[Tree<'_>], path: &mut Path) -> Result<Values, FilterError> {
    if items.is_empty() {
        return Err(path.error("must not be empty"));
    }
    let mut values = Values::default();
    for (at, item) in items.iter().enumerate() {
        path.with(at, |path| {
            match item {
                Tree::String(text) => _ = values.strings.insert(text.clone()),
                Tree::Literal(text) | Tree::Number(text, _) => {
                    values.literals.insert((*text).to_owned());
                }
                Tree::Object(operator) => match test(operator, path)? {
                    Some(test) => values.tests.push(test),
                    None => values.absent = true,
                },
                Tree::Array(_) => {
                    return Err(path.error("must be a value or an operator, not a list"));
                }
            }
            Ok(())
        })?;
    }
    Ok(values)
}

/// The one operator of an object and its operand.
fn operator<'t, 'a>(
    object: &'t Fields<'a>,
    path: &Path,
) -> Result<(&'t str, &'t Tree<'a>), FilterError> {
    let mut entries = object.iter();
    match (entries.next().map(|(name, values)| (name, values.as_slice())), entries.next()) {
        (Some((name, [operand])), None) => Ok((name, operand)),
        _ => Err(path.error("must have exactly one operator")),
    }
}

/// One operator; nothing for `{"exists": false}`.
fn test(object: &Fields<'_>, path: &mut Path) -> Result<Option<Test>, FilterError> {
    let (name, operand) = operator(object, path)?;
    path.with(name, |path| {
        Ok(Some(match name {
            "exists" => match operand {
                Tree::Literal("true") => Test::Exists,
                Tree::Literal("false") => return Ok(None),
                _ => return Err(path.error("must be true or false")),
            },
            "numeric" => Test::Numeric(numeric(operand, path)?),
            "cidr" => {
                let text = string(operand, path)?;
                let block = text.parse();
                Test::Cidr(block.map_err(|_| {
                    path.error("must be a block of IP addresses such as `10.0.0.0/24`")
                })?)
            }
            "anything-but" => anything_but(operand, path)?,
            "prefix" | "suffix" => match operand {
                Tree::Object(inner) => {
                    let (inner_name, operand) = operator(inner, path)?;
                    path.with(inner_name, |path| {
                        if inner_name != "equals-ignore-case" {
                            return Err(path.error("is not an operator that can be used here"));
                        }
                        let text = lower_case(string(operand, path)?).collect();
                        Ok(Test::Text(match name {
                            "prefix" => TextTest::PrefixIgnoreCase(text),
                            _ => TextTest::SuffixIgnoreCase(text),
                        }))
                    })?
                }
                _ => Test::Text(text_test(name, operand, path)?),
            },
            "wildcard" | "equals-ignore-case" => Test::Text(text_test(name, operand, path)?),
            _ => return Err(path.error("is not an operator of event patterns")),
        }))
    })
}

fn anything_but(operand: &Tree<'_>, path: &mut Path) -> Result<Test, FilterError> {
    if let Tree::Object(inner) = operand {
        let (name, operand) = operator(inner, path)?;
        return path.with(name, |path| {
            let known = ["prefix", "suffix", "wildcard", "equals-ignore-case"].contains(&name);
            if !known {
                return Err(path.error("is not an operator that can be used here"));
            }
            let read = |operand: &Tree<'_>, path: &mut Path| {
                let empty = matches!(operand, Tree::String(text) if text.is_empty());
                if empty && name.ends_with("fix") {
                    return Err(path.error("must not be empty"));
                }
                text_test(name, operand, path)
            };
            Ok(Test::NotTexts(one_or_more(operand, path, read)?))
        });
    }
    let first = match operand {
        Tree::Array(items) => items.first(),
        other => Some(other),
    };
    match first {
        Some(Tree::Number(..)) => {
            let read = |operand: &Tree<'_>, path: &mut Path| match operand {
                Tree::Number(_, value) => Ok(*value),
                _ => Err(path.error("must be a number like the first of the list")),
            };
            let mut numbers = one_or_more(operand, path, read)?;
            numbers.sort_by(f64::total_cmp);
            Ok(Test::NotNumbers(numbers))
        }
        Some(Tree::String(_)) | None => {
            let read = |operand: &Tree<'_>, path: &mut Path| match operand {
                Tree::String(text) => Ok(text.clone()),
                _ => Err(path.error("must be a string like the first of the list")),
            };
            Ok(Test::NotStrings(one_or_more(operand, path, read)?.into_iter().collect()))
        }
        Some(_) => Err(path.error("must be a string, a number, a list of either, or an operator")),
    }
}

/// The operand, or each of the operands in a list.
fn one_or_more<T>(
    operand: &Tree<'_>,
    path: &mut Path,
    read: impl Fn(&Tree<'_>, &mut Path) -> Result<T, FilterError>,
) -> Result<Vec<T>, FilterError> {
    match operand {
        Tree::Array(items) if items.is_empty() => Err(path.error("must not be empty")),
        Tree::Array(items) => {
            let read = |(at, item)| path.with(at, |path| read(item, path));
            items.iter().enumerate().map(read).collect()
        }
        other => Ok(vec![read(other, path)?]),
    }
}

fn text_test(name: &str, operand: &Tree<'_>, path: &Path) -> Result<TextTest, FilterError> {
    let text = string(operand, path)?;
    Ok(match name {
        "prefix" => TextTest::Prefix(text.to_owned()),
        "suffix" => TextTest::Suffix(text.to_owned()),
        "equals-ignore-case" => TextTest::EqualsIgnoreCase(lower_case(text).collect()),
        _ => TextTest::Wildcard(wildcard(text).map_err(|problem| path.error(problem))?),
    })
}

fn string<'t>(operand: &'t Tree<'_>, path: &Path) -> Result<&'t str, FilterError> {
    match operand {
        Tree::String(text) => Ok(text),
        _ => Err(path.error("must be a string")),
    }
}

/// The parts between the asterisks.
fn wildcard(text: &str) -> Result<Vec<String>, &'static str> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => return Err("must not have two `*` side by side"),
            '*' => parts.push(std::mem::take(&mut part)),
            '\\' => match chars.next() {
                Some(escaped @ ('*' | '\\')) => part.push(escaped),
                _ => return Err("may have a backslash only before `*` or another backslash"),
            },
            other => part.push(other),
        }
    }
    parts.push(part);
    Ok(parts)
}

/// `["=", 5]`, `[">", 0]`, `[">", 0, "<=", 5]`.
fn numeric(operand: &Tree<'_>, path: &mut Path) -> Result<Range, FilterError> {
    const SHAPE: &str =
        "must be a list such as `[\"=\", 5]`, `[\"<\", 10]` or `[\">\", 0, \"<=\", 5]`";
    let Tree::Array(items) = operand else {
        return Err(path.error(SHAPE));
    };
    let mut bounds = Vec::new();
    for (at, pair) in items.chunks(2).enumerate() {
        let [Tree::String(comparison), Tree::Number(_, value)] = pair else {
            return Err(path.error(SHAPE));
        };
        if value.abs() > NUMERIC_MAX {
            return path
                .with(2 * at + 1, |path| Err(path.error("must be a number from -5.0e9 to 5.0e9")));
        }
        bounds.push((comparison.as_str(), *value));
    }
    let above = |comparison: &str, value| match comparison {
        ">" => Some(Bound::Excluded(value)),
        ">=" | "=" => Some(Bound::Included(value)),
        _ => None,
    };
    let below = |comparison: &str, value| match comparison {
        "<" => Some(Bound::Excluded(value)),
        "<=" | "=" => Some(Bound::Included(value)),
        _ => None,
    };
    let range = match bounds.as_slice() {
        [(comparison, value)] => match (above(comparison, *value), below(comparison, *value)) {
            (None, None) => None,
            (low, high) => {
                Some((low.unwrap_or(Bound::Unbounded), high.unwrap_or(Bound::Unbounded)))
            }
        },
        [("=", _), _] | [_, ("=", _)] => None,
        [(more, low), (less, high)] => above(more, *low).zip(below(less, *high)),
        _ => None,
    };
    match (range, bounds.as_slice()) {
        (None, _) => Err(path.error(SHAPE)),
        (Some(_), [(_, low), (_, high)]) if low >= high => {
            Err(path.error("must have a lower bound below the upper bound"))
        }
        (Some(range), _) => Ok(range),
    }
}

// ---- JSON -----------------------------------------------------------------------------------

/// JSON in which numbers keep their spelling.
#[derive(Debug)]
enum Tree<'a> {
    /// `true`, `false` or `null`.
    Literal(&'a str),
    Number(&'a str, f64),
    String(String),
    Array(Vec<Tree<'a>>),
    Object(Fields<'a>),
}

/// The fields of an object. One whose name has dots stands where it would stand if it were nested,
/// where there may be a value of that name already.
type Fields<'a> = BTreeMap<String, Vec<Tree<'a>>>;

/// The JSON nests too deeply.
#[derive(Debug)]
struct TooDeep;

const VALID: &str = "a part of valid JSON is valid JSON";

/// Reads valid JSON.
struct Reader<'n> {
    /// When given, other fields are skipped, and so are those that nest too deeply.
    names: Option<&'n HashSet<String>>,
}

impl Reader<'_> {
    fn read<'a>(&self, text: &'a str, depth: usize) -> Result<Tree<'a>, TooDeep> {
        if depth > JSON_DEPTH + 1 {
            return Err(TooDeep);
        }
        Ok(match text.as_bytes().first() {
            Some(b'"') => Tree::String(from_json::<Text>(text).0),
            Some(b'[') => {
                let items: Vec<&RawValue> = from_json(text);
                let read = |item: &&'a RawValue| self.read(item.get(), depth + 1);
                Tree::Array(items.iter().map(read).collect::<Result<_, _>>()?)
            }
            Some(b'{') => {
                let Entries(entries) = from_json(text);
                let mut fields = Fields::new();
                for (Text(name), value) in entries {
                    let mut steps = name.split('.');
                    if self.names.is_some_and(|names| !steps.all(|step| names.contains(step))) {
                        continue;
                    }
                    let nested = depth + 1 + name.bytes().filter(|byte| *byte == b'.').count();
                    match self.read(value.get(), nested) {
                        Ok(tree) => insert(&mut fields, &name, tree),
                        Err(TooDeep) if self.names.is_some() => {}
                        Err(TooDeep) => return Err(TooDeep),
                    }
                }
                Tree::Object(fields)
            }
            Some(b't' | b'f' | b'n') => Tree::Literal(text),
            _ => Tree::Number(text, number(text)),
        })
    }
}

/// Puts a field where its name says. Of objects with the same name, and of other values with the
/// same name, there is one: objects become one, of the others the last stays.
fn insert<'a>(fields: &mut Fields<'a>, name: &str, value: Tree<'a>) {
    let (first, rest) = name.split_once('.').map_or((name, None), |(a, b)| (a, Some(b)));
    let value = match rest {
        Some(rest) => {
            let mut inner = Fields::new();
            insert(&mut inner, rest, value);
            Tree::Object(inner)
        }
        None => value,
    };
    let present = fields.entry(first.to_owned()).or_default();
    let is_object = |tree: &Tree<'_>| matches!(tree, Tree::Object(_));
    match (present.iter_mut().find(|old| is_object(old) == is_object(&value)), value) {
        (Some(Tree::Object(old)), Tree::Object(new)) => {
            for (name, value) in new.into_iter().flat_map(|(name, values)| {
                values.into_iter().map(move |value| (name.clone(), value))
            }) {
                insert(old, &name, value);
            }
        }
        (Some(old), value) => *old = value,
        (None, value) => present.push(value),
    }
}

#[expect(clippy::expect_used, reason = "see the text")]
fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).expect(VALID)
}

/// The value of a JSON number, with one zero instead of two.
#[expect(clippy::expect_used, reason = "see the text")]
fn number(text: &str) -> f64 {
    text.parse::<f64>().expect("Rust reads what JSON calls a number") + 0.0
}

/// A JSON string. Half of a surrogate pair, which JSON can write and UTF-8 cannot, is replaced.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The fields of a JSON object, in their order.
struct Entries<'a>(Vec<(Text, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries<'de>, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    #[derive(Deserialize)]
    struct Vectors {
        matching: Vec<Matching>,
        invalid: Vec<Invalid>,
    }

    #[derive(Deserialize)]
    struct Matching {
        pattern: Box<RawValue>,
        matches: Vec<Box<RawValue>>,
        #[serde(default)]
        does_not_match: Vec<Box<RawValue>>,
    }

    #[derive(Deserialize)]
    struct Invalid {
        pattern: Box<RawValue>,
        error: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../vectors/filter.json")).unwrap()
    }

    fn matches(pattern: &str, data: &str) -> bool {
        Filter::parse(pattern).unwrap().matches(&Data::parse(data).unwrap())
    }

    #[test]
    fn documented_examples_match_as_documented() {
        let vectors = vectors();
        for Matching { pattern, matches: good, does_not_match: bad } in &vectors.matching {
            for (data, expected) in
                good.iter().map(|data| (data, true)).chain(bad.iter().map(|data| (data, false)))
            {
                assert_eq!(matches(pattern.get(), data.get()), expected, "{pattern} on {data}");
            }
        }
    }

    #[test]
    fn invalid_pattern_is_refused_with_its_place_and_problem() {
        for Invalid { pattern, error } in &vectors().invalid {
            let found = Filter::parse(pattern.get()).unwrap_err();
            assert_eq!(format!("{} {}", found.at, found.problem), *error, "{pattern}");
        }
        let error = Filter::parse("{").unwrap_err().to_string();
        assert!(
            error.starts_with("is not a valid event pattern: the pattern is not JSON: "),
            "{error}"
        );
        assert_eq!(
            Filter::parse(r#"{"a/b":{"~":[{"starts":1}]}}"#).unwrap_err().to_string(),
            "is not a valid event pattern: `/a~1b/~0/0/starts` is not an operator of event patterns"
        );
    }

    #[test]
    fn size_and_depth_of_a_pattern_are_bounded() {
        let pattern = |n: usize| format!(r#"{{"a":["{}"]}}"#, "x".repeat(n));
        assert!(Filter::parse(&pattern(FILTER_BYTES - 10).replace(':', " : ")).is_ok());
        let error = Filter::parse(&pattern(FILTER_BYTES - 9)).unwrap_err();
        assert_eq!(error.problem, "must be at most 4096 bytes as compact JSON");
        let nested = |n: usize| format!("{}[1]{}", r#"{"a":"#.repeat(n - 1), "}".repeat(n - 1));
        assert!(Filter::parse(&nested(JSON_DEPTH)).is_ok());
        let dotted = |n: usize| format!(r#"{{"{}":[1]}}"#, vec!["a"; n - 1].join("."));
        assert!(Filter::parse(&dotted(JSON_DEPTH)).is_ok());
        for bad in [nested(JSON_DEPTH + 1), dotted(JSON_DEPTH + 1), nested(100_000), dotted(1000)] {
            let error = Filter::parse(&bad).unwrap_err();
            assert_eq!(error.problem, "must not nest more than 100 levels deep");
        }
        let error = Filter::parse(&format!(r#"{{"{}":1}}"#, "é".repeat(1000))).unwrap_err();
        assert!(error.at.len() < 200, "{error}");
    }

    #[test]
    fn pattern_is_written_with_the_numbers_and_order_of_its_owner() {
        let filter = Filter::parse(r#" { "z" : [ 3.0e2 , "\u00e9" ], "a":[ null ] } "#).unwrap();
        let text = r#"{"z":[3.0e2,"é"],"a":[null]}"#;
        assert_eq!(filter.as_str(), text);
        assert_eq!(serde_json::to_string(&filter).unwrap(), text);
        assert_eq!(Filter::parse(text).unwrap(), filter);
    }

    #[test]
    fn string_with_half_a_surrogate_pair_does_not_stop_a_match() {
        let data = r#"{"\ud800":1,"a":"\udc00","b":"x"}"#;
        assert!(matches(r#"{"b":["x"]}"#, data));
        assert!(matches(r#"{"a":[{"exists":true}]}"#, data));
    }

    #[test]
    fn field_name_with_very_many_dots_is_not_followed() {
        let data = format!(r#"{{"{}":1,"a":"x"}}"#, vec!["a"; 100_000].join("."));
        assert!(matches(r#"{"a":["x"]}"#, &data));
    }

    /// What costs the most by each operator: full patterns on full data. The bound holds for an
    /// unoptimised build on a busy machine; something quadratic would take hours.
    #[test]
    fn time_is_bounded_for_adversarial_patterns_and_data() {
        let size = crate::limits::EVENT_DATA_BYTES - 16;
        let list = |item: &str| format!("[{}]", vec![item; size / (item.len() + 1)].join(","));
        let full = |item: &str| {
            let items = vec![item; (FILTER_BYTES - 40) / (item.len() + 1)].join(",");
            [format!(r#"{{"a":[{items}]}}"#), format!(r#"{{"a":[{{"anything-but":[{items}]}}]}}"#)]
        };
        let or = vec![r#"{"a":{"a":[1]}}"#; 250].join(",");
        let patterns = [
            vec![format!(r#"{{"a":[{{"wildcard":"{}b"}}]}}"#, "*a".repeat(1900))],
            vec![format!(r#"{{"$or":[{or}]}}"#)],
            full(r#"{"wildcard":"*a*aab*b"}"#).into(),
            full(r#"{"suffix":{"equals-ignore-case":"B"}}"#).into(),
            full(r#"{"numeric":["<",0]}"#).into(),
            full(r#""b""#).into(),
            full("7").into(),
        ];
        let values = [
            format!(r#""{}""#, "a".repeat(size)),
            list("1"),
            list(r#""""#),
            list(r#""aaaa""#),
            list(r#"{"a":0}"#),
            format!("{}1{}", r#"{"a":"#.repeat(95), "}".repeat(95)),
            format!("{}{}{}", "[".repeat(95), "1".repeat(size - 190), "]".repeat(95)),
        ];
        for pattern in patterns.iter().flatten() {
            let Ok(filter) = Filter::parse(pattern) else { continue };
            for value in &values {
                let data = Data::parse(&format!(r#"{{"a":{value}}}"#)).unwrap();
                let begin = Instant::now();
                let _ = filter.matches(&data);
                let took = begin.elapsed();
                assert!(took < Duration::from_secs(20), "{took:?} {}", &pattern[..60]);
            }
        }
    }

    fn scalar() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just(r#""""#.to_owned()),
            (-3..3i32).prop_map(|n| n.to_string()),
            "[-]?[1-9]{1,3}\\.[0-9]{1,2}(e[1-9])?",
            r#""[aAbB*ß.]{0,4}""#,
        ]
    }

    fn json(leaf: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = String> {
        let names = ["a", "b", "a.b", "", "$or"];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            let entry = (proptest::sample::select(names.to_vec()), inner.clone())
                .prop_map(|(name, value)| format!("{name:?}:{value}"));
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(|v| format!("[{}]", v.join(","))),
                proptest::collection::vec(entry, 0..4).prop_map(|v| format!("{{{}}}", v.join(","))),
            ]
        })
    }

    fn values() -> impl Strategy<Value = String> {
        let operators = [
            "prefix",
            "suffix",
            "wildcard",
            "equals-ignore-case",
            "anything-but",
            "exists",
            "numeric",
            "cidr",
        ];
        let operand = prop_oneof![
            scalar(),
            proptest::collection::vec(scalar(), 0..3).prop_map(|v| format!("[{}]", v.join(","))),
            r#""[ab*]{1,4}""#,
            Just("false".to_owned()),
            Just(r#"[">=",0,"<",2]"#.to_owned()),
            Just(r#"{"prefix":["a","b"]}"#.to_owned()),
            Just(r#"{"equals-ignore-case":"A"}"#.to_owned()),
        ];
        let test = (proptest::sample::select(operators.to_vec()), operand)
            .prop_map(|(name, operand)| format!("{{{name:?}:{operand}}}"));
        proptest::collection::vec(prop_oneof![scalar(), test], 1..4)
            .prop_map(|values| format!("[{}]", values.join(",")))
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,60}") {
            let _ = Filter::parse(&text);
        }

        #[test]
        fn every_pattern_is_refused_or_matched_against_any_data(
            pattern in json(values()), data in json(scalar()),
        ) {
            let data = Data::parse(&format!(r#"{{"a":{data}}}"#)).unwrap();
            for pattern in [format!(r#"{{"a":{pattern}}}"#), pattern] {
                if let Ok(filter) = Filter::parse(&pattern) {
                    let _ = filter.matches(&data);
                    prop_assert_eq!(Filter::parse(filter.as_str()).unwrap(), filter);
                }
            }
        }

        #[test]
        fn wildcard_agrees_with_a_backtracking_matcher(pattern in "[ab*]{0,8}", text in "[ab]{0,12}") {
            fn naive(pattern: &[u8], text: &[u8]) -> bool {
                match pattern {
                    [] => text.is_empty(),
                    [b'*', rest @ ..] => (0..=text.len()).any(|at| naive(rest, &text[at..])),
                    [c, rest @ ..] => text.first() == Some(c) && naive(rest, &text[1..]),
                }
            }
            prop_assume!(!pattern.contains("**"));
            let found = matches_wildcard(&wildcard(&pattern).unwrap(), &text);
            prop_assert_eq!(found, naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn anything_but_is_the_opposite_of_exact(
            listed in r#"[0-3]|"[ab]""#, value in r#"[0-3]|"[ab]"|null|true"#,
        ) {
            let data = format!(r#"{{"a":{value}}}"#);
            let exact = matches(&format!(r#"{{"a":[{listed}]}}"#), &data);
            let other = matches(&format!(r#"{{"a":[{{"anything-but":{listed}}}]}}"#), &data);
            prop_assert!(exact != other);
        }
    }
}
