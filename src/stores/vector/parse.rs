//! Filters as people write them: `year>=2020 and lang=="en"`.
//!
//! ```text
//! filters   = all ("or" all)*
//! all       = one ("and" one)*
//! one       = "not" one | "(" filters ")" | condition
//! condition = key operator value | key "is_empty"
//! key       = letters, digits, "_", "-", "." | string
//! operator  = "==" | "=" | "!=" | ">=" | "<=" | ">" | "<" | the names of FilterOperator
//!           | "not" "in"
//! value     = number | string | null | "[" [value ("," value)*] "]"
//! string    = "..." or '...', with \" \' \\ \n \t
//! ```

use super::filter::{
    FILTER_DEPTH_MAX, Filter, FilterOperator, MetadataFilter, MetadataFilters, too_deep,
};
use crate::kv::Value;
use crate::stores::StoreError;

impl MetadataFilters {
    /// Reads filters from text such as `year>=2020 and (lang=="en" or not tags contains "draft")`.
    /// `and` binds tighter than `or`; empty text is no filter.
    ///
    /// ```
    /// use siltstone::stores::MetadataFilters;
    /// let filters = MetadataFilters::parse("lang in ['en', 'de'] or pages < 10")?;
    /// assert_eq!(filters.filters.len(), 2);
    /// assert!(MetadataFilters::parse("lang ==").is_err());
    /// # Ok::<(), siltstone::stores::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidArgument`] that says what is wrong and at which character.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let mut parser = Parser { text, at: 0 };
        parser.skip_space();
        if parser.rest().is_empty() {
            return Ok(MetadataFilters::default());
        }
        let filter = parser.any(FILTER_DEPTH_MAX)?;
        if !parser.rest().is_empty() {
            return Err(parser.error("expected \"and\", \"or\" or the end"));
        }
        let filters = match filter {
            Filter::Group(group) => group,
            one => MetadataFilters::all([one]),
        };
        filters.check_depth()?;
        Ok(filters)
    }
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes, at the start of a character.
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: &str) -> StoreError {
        let place = self.text.get(..self.at).unwrap_or_default().chars().count() + 1;
        StoreError::InvalidArgument(format!("filter, character {place}: {what}"))
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes `sign` if it comes next.
    fn sign(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
            self.skip_space();
        }
        found
    }

    /// The word that comes next, without taking it; it may be empty.
    fn peek_word(&self) -> &'a str {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let rest = self.rest();
        let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        rest.get(..len).unwrap_or_default()
    }

    /// Takes `word` if it comes next as a whole.
    fn word(&mut self, word: &str) -> bool {
        self.peek_word().eq_ignore_ascii_case(word) && {
            self.at += word.len();
            self.skip_space();
            true
        }
    }

    fn any(&mut self, levels: usize) -> Result<Filter, StoreError> {
        self.joined(levels, "or", Self::all, MetadataFilters::any)
    }

    fn all(&mut self, levels: usize) -> Result<Filter, StoreError> {
        self.joined(levels, "and", Self::one, MetadataFilters::all)
    }

    /// Parts with a word between them; one part stands for itself.
    fn joined(
        &mut self,
        levels: usize,
        word: &str,
        part: fn(&mut Self, usize) -> Result<Filter, StoreError>,
        join: fn(Vec<Filter>) -> MetadataFilters,
    ) -> Result<Filter, StoreError> {
        let first = part(self, levels)?;
        if !self.peek_word().eq_ignore_ascii_case(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.word(word) {
            parts.push(part(self, levels)?);
        }
        Ok(join(parts).into())
    }

    fn one(&mut self, levels: usize) -> Result<Filter, StoreError> {
        let Some(levels) = levels.checked_sub(1) else { return Err(too_deep()) };
        if self.word("not") {
            let inner = match self.one(levels)? {
                Filter::Group(group) => MetadataFilters::none([group]),
                one => MetadataFilters::none([one]),
            };
            return Ok(inner.into());
        }
        if self.sign("(") {
            let inner = self.any(levels)?;
            if !self.sign(")") {
                return Err(self.error("expected \")\""));
            }
            return Ok(inner);
        }
        self.condition().map(Filter::One)
    }

    fn condition(&mut self) -> Result<MetadataFilter, StoreError> {
        let key = match self.rest().starts_with(['"', '\'']) {
            true => self.string()?,
            false => {
                let word = self.peek_word();
                if word.is_empty() {
                    return Err(self.error("expected a metadata key"));
                }
                self.at += word.len();
                self.skip_space();
                word.to_owned()
            }
        };
        let operator = self.operator()?;
        let start = self.at;
        let value = match operator {
            FilterOperator::IsEmpty => Value::Null,
            _ => self.value(FILTER_DEPTH_MAX)?,
        };
        MetadataFilter::new(key, operator, value).map_err(|e| match e {
            StoreError::InvalidArgument(what) => {
                self.at = start;
                self.error(&what)
            }
            other => other,
        })
    }

    fn operator(&mut self) -> Result<FilterOperator, StoreError> {
        for sign in ["==", "!=", ">=", "<=", ">", "<", "="] {
            if self.sign(sign) {
                let name = if sign == "=" { "==" } else { sign };
                return FilterOperator::from_name(name)
                    .ok_or_else(|| self.error("unknown operator"));
            }
        }
        if self.word("not") {
            let is_in = self.word("in");
            return is_in
                .then_some(FilterOperator::Nin)
                .ok_or_else(|| self.error("expected \"in\" after \"not\""));
        }
        let word = self.peek_word().to_ascii_lowercase();
        let Some(operator) = FilterOperator::from_name(&word) else {
            return Err(self.error(
                "expected an operator: ==, !=, >, >=, <, <=, in, not in, nin, any, all, \
                 contains, text_match, text_match_insensitive or is_empty",
            ));
        };
        self.at += word.len();
        self.skip_space();
        Ok(operator)
    }

    fn value(&mut self, levels: usize) -> Result<Value, StoreError> {
        let Some(levels) = levels.checked_sub(1) else { return Err(too_deep()) };
        if self.rest().starts_with(['"', '\'']) {
            return self.string().map(Value::from);
        }
        if self.sign("[") {
            let mut list = Vec::new();
            while !self.sign("]") {
                if !list.is_empty() && !self.sign(",") {
                    return Err(self.error("expected \",\" or \"]\""));
                }
                list.push(self.value(levels)?);
            }
            return Ok(Value::List(list));
        }
        if self.word("null") || self.word("none") {
            return Ok(Value::Null);
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let rest = self.rest();
        let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let word = rest.get(..len).unwrap_or_default();
        let is_number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        let float = || word.parse::<f64>().ok().map(Value::Float);
        match Value::integer(word).or_else(float).filter(|_| is_number) {
            Some(number) => {
                self.at += len;
                self.skip_space();
                Ok(number)
            }
            None => Err(self.error(
                "expected a value: a number, a string in quotes, null or a list in brackets",
            )),
        }
    }

    /// A string in quotes, which come next.
    fn string(&mut self) -> Result<String, StoreError> {
        let start = self.at;
        let mut chars = self.rest().char_indices();
        let quote = chars.next().map_or('"', |(_, c)| c);
        let mut text = String::new();
        while let Some((place, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at += place + c.len_utf8();
                    self.skip_space();
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c @ ('"' | '\'' | '\\'))) => text.push(c),
                    _ => {
                        self.at = start + place;
                        return Err(self.error("unknown escape"));
                    }
                },
                c => text.push(c),
            }
        }
        Err(self.error("the string that starts here has no end"))
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::stores::FilterOperator as Op;

    fn one(key: &str, op: Op, value: impl Into<Value>) -> MetadataFilter {
        MetadataFilter::new(key, op, value).expect("a value that filters take")
    }

    #[test]
    fn text_is_read_as_it_is_meant() {
        let parse = |text: &str| MetadataFilters::parse(text).expect(text);
        let (year, lang) = (one("year", Op::Gte, 2020), one("lang", Op::Eq, "en"));
        let both = MetadataFilters::all([year.clone(), lang.clone()]);
        assert_eq!(parse("year>=2020 and lang==\"en\""), both);
        assert_eq!(parse(" year >= 2020 AND lang = 'en' "), both);
        let a = one("a", Op::Lt, -1.5);
        let mixed = MetadataFilters::any([Filter::from(a.clone()), both.clone().into()]);
        assert_eq!(parse("a<-1.5 or year>=2020 and lang=='en'"), mixed);
        let not = MetadataFilters::none([mixed]);
        assert_eq!(parse("not (a < -1.5 or (year>=2020 and lang=='en'))"), not);
        assert_eq!(parse("").filters, []);
        let list = Value::List(vec!["x\"y".into(), "\\n".into()]);
        let quoted = MetadataFilters::all([one("key with space", Op::Any, list)]);
        assert_eq!(parse(r#""key with space" any ["x\"y", '\\n']"#), quoted);
        assert_eq!(parse("a is_empty"), MetadataFilters::all([one("a", Op::IsEmpty, Value::Null)]));
        let numbers = Value::List(vec![Value::Float(1.0), Value::Float(2.5)]);
        assert_eq!(parse("n in [1, 2.5]"), MetadataFilters::all([one("n", Op::In, numbers)]));
        let numbers = Value::List(vec![Value::Int(1), Value::Int(2)]);
        let outside = MetadataFilters::all([one("n", Op::Nin, numbers.clone())]);
        for text in ["n not in [1, 2]", "n NOT  In[1,2]", "n nin [1, 2]"] {
            assert_eq!(parse(text), outside, "{text}");
        }
        let negated = MetadataFilters::none([one("n", Op::Nin, numbers.clone())]);
        assert_eq!(parse("not n not in [1, 2]"), negated);
        assert_eq!(parse("in not in [1, 2]"), MetadataFilters::all([one("in", Op::Nin, numbers)]));
        let wide = "x".repeat(3);
        assert_eq!(
            parse(&format!("orders == '{wide}' and nothing != null")).filters.len(),
            2,
            "words that start with and, or, not are keys"
        );
    }

    #[test]
    fn errors_say_where() {
        let cases = [
            ("year", "character 5: expected an operator"),
            ("year >= ", "character 9: expected a value"),
            ("year >= twenty", "character 9: expected a value"),
            ("year >= 1 lang", "character 11: expected \"and\""),
            ("(year >= 1", "character 11: expected \")\""),
            ("\u{e9}t == 'x", "character 7: the string that starts here has no end"),
            ("a == 'x\\q'", "character 8: unknown escape"),
            ("a in [1 2]", "character 9: expected \",\""),
            ("a in [1, 'x']", "character 6: the value of a metadata filter holds a string"),
            ("and", "character 4: expected an operator"),
            ("a not [1]", "character 7: expected \"in\" after \"not\""),
            ("== 1", "character 1: expected a metadata key"),
        ];
        for (text, expected) in cases {
            let e = MetadataFilters::parse(text).expect_err(text).to_string();
            assert!(e.contains(expected), "{text}: {e}");
        }
        for deep in ["(".repeat(100_000), "not ".repeat(100_000), "a in [".repeat(100_000)] {
            assert!(MetadataFilters::parse(&deep).is_err());
        }
        let nested = format!("a in {}", "[".repeat(100_000));
        assert!(MetadataFilters::parse(&nested).is_err());
    }

    /// Goal: no text makes it panic. Method: random pieces of what it knows.
    #[test]
    fn no_text_panics() {
        let pieces = [
            "a", "and", "or", "not", "(", ")", "[", "]", ",", "==", "<", "1", "-", "'", "\"", "\\",
            "\u{e9}", " ", "in", "null", ".5e3",
        ];
        for seed in 0..5000u64 {
            let mut rng = crate::testing::Rng::new(seed);
            let text: String =
                (0..rng.below(12)).map(|_| pieces[rng.below(pieces.len())]).collect();
            if let Err(e) = MetadataFilters::parse(&text) {
                assert!(e.to_string().contains("filter"), "seed {seed}: {text}: {e}");
            }
        }
    }
}
