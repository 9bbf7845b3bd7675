//! The text of a pack to a [`Target`]: every key, name and number is checked, and what is wrong is
//! reported with its line and the nearest name that would have been right.

mod names;
mod raw;

pub(super) use names::{builtin, did_you_mean};

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use toml::Spanned;

use names::builtin_names;
use raw::{
    RawCondition, RawEffect, RawEntry, RawMemory, RawPack, RawPartition, RawRule, RawValue,
    RawWhich,
};

use super::condition::{Bounds, Check, Condition, Operands, Value};
use super::quantity::{Quantity, What};
use super::{
    Effect, Entry, MAPPED, Memory, OTHERWISE, PartitionPolicy, Rule, Table, Target, TargetError,
    UNKNOWN, Which, view,
};
use crate::tensor::DType;

type Name = Spanned<String>;

/// What reads a pack, with the means to say where something is wrong.
struct Reader<'a> {
    text: &'a str,
    origin: &'a str,
    groups: HashMap<String, Vec<String>>,
}

impl Target {
    /// The target that the text of a pack describes; `origin` is what errors call it.
    pub fn parse(text: &str, origin: &str) -> Result<Self, TargetError> {
        let mut reader = Reader {
            text,
            origin,
            groups: HashMap::new(),
        };
        let raw: RawPack = toml::from_str(text).map_err(|error| reader.syntax(&error))?;
        reader.pack(raw)
    }
}

impl Reader<'_> {
    fn error(&self, at: Range<usize>, message: String, hint: String) -> TargetError {
        let before = self.text.as_bytes().get(..at.start).unwrap_or_default();
        TargetError::Pack {
            origin: self.origin.to_owned(),
            line: 1 + before.iter().filter(|&&b| b == b'\n').count(),
            message,
            hint,
        }
    }

    /// What TOML or the shape of the tables has to say, with the nearest of the names it expected.
    fn syntax(&self, error: &toml::de::Error) -> TargetError {
        let message = error.message().replace('\n', " ");
        // Of ``unknown field `a`, expected one of `b`, `c` ``, what stands between backquotes.
        let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let hint = match &*names {
            [wrong, expected @ ..] if message.starts_with("unknown") && !expected.is_empty() => {
                did_you_mean(wrong, expected)
            }
            _ => "docs/targets.md says what a pack holds".to_owned(),
        };
        self.error(error.span().unwrap_or(0..0), message, hint)
    }

    fn unknown(&self, kind: &str, name: &Name, known: &[&str]) -> TargetError {
        let hint = did_you_mean(name.get_ref(), known);
        self.error(
            name.span(),
            format!("unknown {kind} `{}`", name.get_ref()),
            hint,
        )
    }

    fn positive(&self, number: &Spanned<i64>, what: &str) -> Result<u64, TargetError> {
        match u64::try_from(*number.get_ref()) {
            Ok(value) if value > 0 => Ok(value),
            _ => Err(self.error(
                number.span(),
                format!("{what} {} is not above 0", number.get_ref()),
                "write a whole number of at least 1".to_owned(),
            )),
        }
    }

    fn pack(&mut self, raw: RawPack) -> Result<Target, TargetError> {
        let usable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = raw.name.get_ref();
        if name.is_empty() || !name.chars().all(usable) {
            return Err(self.error(
                raw.name.span(),
                format!("the name `{name}` cannot be typed in a command"),
                "use small letters, digits and hyphens".to_owned(),
            ));
        }
        let base = raw.extends.map(|name| self.base(&name)).transpose()?;
        let policy = match (raw.partition, &base) {
            (Some(partition), _) => self.policy(&partition)?,
            (None, Some(base)) => base.policy,
            (None, None) => PartitionPolicy::default(),
        };
        let memory = raw.memory.map(|memory| self.memory(memory)).transpose()?;
        let memory = memory.or_else(|| base?.memory.clone());
        let (mut sources, inherited, mut rules) = match base {
            Some(base) => (base.sources.clone(), base.entries(), base.rules.clone()),
            None => Default::default(),
        };
        sources.extend(raw.sources);
        let entries = self.entries(inherited, raw.ops)?;
        for (group, names) in raw.groups {
            let known: Vec<&str> = entries.iter().map(|e| &*e.name).collect();
            for name in &names {
                if !known.contains(&name.get_ref().as_str()) {
                    return Err(self.unknown(
                        "operator in a group, which must be in the table,",
                        name,
                        &known,
                    ));
                }
            }
            let names = names.into_iter().map(Spanned::into_inner).collect();
            self.groups.insert(group, names);
        }
        let mut ids: Vec<String> = super::RESERVED.iter().map(|&id| id.to_owned()).collect();
        ids.extend(rules.iter().map(|rule| rule.id.clone()));
        for rule in raw.rules {
            if ids.contains(rule.id.get_ref()) {
                return Err(self.error(
                    rule.id.span(),
                    format!("the rule `{}` is there already", rule.id.get_ref()),
                    "give every rule an id of its own; some belong to the program".to_owned(),
                ));
            }
            ids.push(rule.id.get_ref().clone());
            rules.push(self.rule(rule, &entries)?);
        }
        let mut statuses = base.map_or_else(BTreeMap::new, |base| base.statuses.clone());
        for (id, status) in raw.statuses {
            let known = ids.iter().map(String::as_str);
            let known: Vec<&str> = known.chain([MAPPED, UNKNOWN, OTHERWISE]).collect();
            if !known.contains(&id.get_ref().as_str()) {
                return Err(self.unknown("rule", &id, &known));
            }
            statuses.insert(id.into_inner(), status);
        }
        let table = match (raw.cpu_kernels, entries.is_empty()) {
            (true, true) => Table::Kernels,
            (false, false) => Table::Entries(entries),
            (true, false) => {
                return Err(self.error(
                    0..0,
                    "the pack lists operators and takes all that the CPU path has kernels for"
                        .to_owned(),
                    "keep one of `cpu-kernels` and `ops`".to_owned(),
                ));
            }
            (false, true) => {
                return Err(self.error(
                    0..0,
                    "the pack lists no operators".to_owned(),
                    "add a table [[ops]] with `names`".to_owned(),
                ));
            }
        };
        Ok(Target {
            name: raw.name.into_inner(),
            title: raw.title,
            about: raw.about,
            sources,
            policy,
            memory,
            statuses,
            table,
            rules,
        })
    }

    /// The built-in pack that another one extends.
    fn base(&self, name: &Name) -> Result<&'static Target, TargetError> {
        let known: Vec<&str> = Target::builtin_names().collect();
        let base = match Target::named(name.get_ref()) {
            Some(base) if matches!(base.table, Table::Entries(_)) => base,
            _ => return Err(self.unknown("pack", name, &known)),
        };
        Ok(base)
    }

    fn policy(&self, raw: &RawPartition) -> Result<PartitionPolicy, TargetError> {
        let min_ops = match &raw.min_ops {
            Some(number) => self.positive(number, "min-ops")?,
            None => 1,
        };
        Ok(PartitionPolicy {
            which: match raw.which {
                RawWhich::First => Which::First,
                RawWhich::All => Which::All,
            },
            min_ops: usize::try_from(min_ops).unwrap_or(usize::MAX),
        })
    }

    fn memory(&self, raw: Spanned<RawMemory>) -> Result<Memory, TargetError> {
        let raw = raw.into_inner();
        let growth = match &raw.parameter_growth {
            None => [1.0, 1.0],
            Some(range) => {
                let [low, high] = *range.get_ref();
                if !(low > 0.0 && low <= high && high.is_finite()) {
                    return Err(self.error(
                        range.span(),
                        format!("the range {low} to {high} cannot be"),
                        "write the smaller factor first, both above 0".to_owned(),
                    ));
                }
                [low, high]
            }
        };
        Ok(Memory {
            cache_bytes: self.positive(&raw.cache_bytes, "cache-bytes")?,
            streams: raw.streams,
            parameter_growth: growth,
            activation_bytes: match &raw.activation_bytes {
                Some(number) => Some(self.positive(number, "activation-bytes")?),
                None => None,
            },
            evidence: raw.evidence,
        })
    }

    fn entries(
        &self,
        mut entries: Vec<Entry>,
        raw: Vec<RawEntry>,
    ) -> Result<Vec<Entry>, TargetError> {
        for table in raw {
            let max_version = match &table.max_version {
                Some(number) => {
                    let version = self.positive(number, "max-version")?;
                    Some(i32::try_from(version).unwrap_or(i32::MAX))
                }
                None => None,
            };
            for name in table.names {
                let custom = name.get_ref().strip_prefix("custom:").map(str::to_owned);
                if custom.is_none() && builtin(name.get_ref()).is_none() {
                    return Err(self.unknown("operator", &name, &builtin_names()));
                }
                let key = custom.unwrap_or_else(|| name.get_ref().clone());
                if entries.iter().any(|e| e.name == key) {
                    return Err(self.error(
                        name.span(),
                        format!("the operator {key} is in the table already"),
                        "list every operator once".to_owned(),
                    ));
                }
                entries.push(Entry {
                    name: key,
                    is_custom: name.get_ref().starts_with("custom:"),
                    max_version,
                    note: table.note.clone(),
                });
            }
        }
        Ok(entries)
    }

    /// The operators that `names` stand for; groups start with `@`.
    fn operators(&self, names: &[Name], entries: &[Entry]) -> Result<Vec<String>, TargetError> {
        let mut operators = Vec::new();
        for name in names {
            if let Some(group) = name.get_ref().strip_prefix('@') {
                let known: Vec<&str> = self.groups.keys().map(String::as_str).collect();
                let found = self.groups.get(group);
                operators.extend(
                    found
                        .ok_or_else(|| self.unknown("group", name, &known))?
                        .clone(),
                );
                continue;
            }
            let plain = name
                .get_ref()
                .strip_prefix("custom:")
                .unwrap_or(name.get_ref());
            let known: Vec<&str> = entries.iter().map(|e| &*e.name).collect();
            if !entries.is_empty() && !known.contains(&plain) {
                return Err(self.unknown("operator, which must be in the table,", name, &known));
            }
            operators.push(plain.to_owned());
        }
        Ok(operators)
    }

    fn rule(&self, raw: RawRule, entries: &[Entry]) -> Result<Rule, TargetError> {
        let ops = raw
            .ops
            .map(|names| self.operators(&names, entries))
            .transpose()?;
        let except = self.operators(&raw.except.unwrap_or_default(), entries)?;
        let applies: Vec<&str> = match &ops {
            Some(ops) => ops.iter().map(String::as_str).collect(),
            None => entries.iter().map(|e| &*e.name).collect(),
        };
        let applies: Vec<&str> = applies
            .into_iter()
            .filter(|op| !except.iter().any(|e| e == op))
            .collect();
        let read = |raw: Option<Spanned<RawCondition>>| {
            raw.map(|raw| self.condition(raw, &applies)).transpose()
        };
        Ok(Rule {
            when: read(raw.when)?,
            unless: read(raw.unless)?,
            require: self.condition(raw.require, &applies)?,
            id: raw.id.into_inner(),
            says: raw.says,
            evidence: raw.evidence,
            is_inferred: raw.inferred,
            effect: match raw.effect {
                RawEffect::Refuse => Effect::Refuse,
                RawEffect::Unknown => Effect::Unknown,
            },
            ops,
            except,
        })
    }

    fn condition(
        &self,
        raw: Spanned<RawCondition>,
        ops: &[&str],
    ) -> Result<Condition, TargetError> {
        let span = raw.span();
        let raw = raw.into_inner();
        let all = |parts: Vec<Spanned<RawCondition>>| {
            parts
                .into_iter()
                .map(|part| self.condition(part, ops))
                .collect::<Result<Vec<_>, _>>()
        };
        let given = [
            raw.any.is_some(),
            raw.all.is_some(),
            raw.not.is_some(),
            raw.measure.is_some(),
        ];
        if given.iter().filter(|&&g| g).count() != 1 {
            return Err(self.error(
                span,
                "a condition has one of `measure`, `any`, `all` and `not`".to_owned(),
                "such as { measure = \"rank\", of = \"outputs\", max = 4 }".to_owned(),
            ));
        }
        if let Some(parts) = raw.any {
            return Ok(Condition::Any(all(parts)?));
        }
        if let Some(parts) = raw.all {
            return Ok(Condition::All(all(parts)?));
        }
        if let Some(inner) = raw.not {
            return Ok(Condition::Not(Box::new(self.condition(*inner, ops)?)));
        }
        self.check(raw, span, ops)
            .map(|check| Condition::Check(Box::new(check)))
    }

    fn check(
        &self,
        raw: RawCondition,
        span: Range<usize>,
        ops: &[&str],
    ) -> Result<Check, TargetError> {
        let wrong = |message: &str, hint: &str| {
            Err(self.error(span.clone(), message.to_owned(), hint.to_owned()))
        };
        let Some(name) = raw.measure else {
            return wrong("a condition without `measure`", "add what is measured");
        };
        let quantities: Vec<&str> = Quantity::ALL.iter().map(|q| q.name()).collect();
        let found = Quantity::ALL.iter().find(|q| q.name() == name.get_ref());
        let &quantity = found.ok_or_else(|| self.unknown("measure", &name, &quantities))?;
        let of = match &raw.of {
            None => None,
            Some(name) => {
                let names: Vec<&str> = Operands::NAMES.iter().map(|n| n.0).collect();
                let operands = Operands::named(name.get_ref());
                Some(operands.ok_or_else(|| self.unknown("tensors", name, &names))?)
            }
        };
        if of.is_some() && quantity.default_operands().is_none() {
            return wrong(
                &format!("{} is not measured on tensors", quantity.name()),
                "leave `of` away",
            );
        }
        if raw.types.is_some() && quantity.default_operands().is_none() {
            return wrong(
                &format!("{} is not measured on tensors", quantity.name()),
                "leave `types` away",
            );
        }
        let has_axis = matches!(quantity, Quantity::Dimension | Quantity::SliceStride);
        if raw.axis.is_some() && !has_axis {
            return wrong(
                "`axis` is for the measures dimension and slice-stride",
                "leave `axis` away",
            );
        }
        if raw.axes.is_some() != (quantity == Quantity::Product) {
            return wrong(
                "`axes` is for the measure product, which needs it",
                "such as `measure = \"product\", axes = [-3, -2]`",
            );
        }
        let types = raw.types.map(|types| self.types(&types)).transpose()?;
        if raw.at.is_some() && quantity != Quantity::Value {
            return wrong("`at` is for the measure value", "leave `at` away");
        }
        match (&raw.attribute, quantity) {
            (Some(name), Quantity::Attribute) => self.attribute(name, ops)?,
            (None, Quantity::Attribute) => {
                return wrong(
                    "an attribute without a name",
                    "add `attribute = \"stride_h\"`",
                );
            }
            (Some(_), _) => {
                return wrong("`attribute` is for the measure attribute", "leave it away");
            }
            (None, _) => {}
        }
        let bounds = self.bounds(quantity, raw.min, raw.max, raw.multiple_of, raw.r#in, &span)?;
        Ok(Check {
            quantity,
            what: What {
                of,
                types,
                axis: raw.axis,
                axes: raw.axes,
                attribute: raw.attribute.map(Spanned::into_inner),
                at: raw.at,
            },
            bounds,
            some: raw.some,
        })
    }

    /// Every builtin that the rule is on must have the attribute.
    fn attribute(&self, name: &Name, ops: &[&str]) -> Result<(), TargetError> {
        for op in ops {
            let Some(code) = builtin(op) else { continue };
            let known = view::attribute_names(code);
            if !known.contains(&name.get_ref().as_str()) {
                return Err(self.unknown(&format!("attribute of {op},"), name, known));
            }
        }
        Ok(())
    }

    fn bounds(
        &self,
        quantity: Quantity,
        min: Option<Spanned<f64>>,
        max: Option<Spanned<f64>>,
        multiple_of: Option<Spanned<f64>>,
        one_of: Option<Vec<Spanned<RawValue>>>,
        span: &Range<usize>,
    ) -> Result<Bounds, TargetError> {
        let numbers = [&min, &max, &multiple_of];
        if numbers.iter().all(|n| n.is_none()) && one_of.is_none() {
            return Err(self.error(
                span.clone(),
                "a condition without bounds always holds".to_owned(),
                "add `min`, `max`, `multiple-of` or `in`".to_owned(),
            ));
        }
        for number in numbers.into_iter().flatten() {
            if !quantity.is_number() {
                return Err(self.error(
                    number.span(),
                    format!("{} is no number", quantity.name()),
                    "say `in = [..]` with what is allowed".to_owned(),
                ));
            }
            if !number.get_ref().is_finite() {
                return Err(self.error(
                    number.span(),
                    format!("{} is no bound", number.get_ref()),
                    "write a finite number".to_owned(),
                ));
            }
        }
        if let Some(step) = &multiple_of
            && *step.get_ref() <= 0.0
        {
            return Err(self.error(
                step.span(),
                format!("nothing is a multiple of {}", step.get_ref()),
                "write a number above 0".to_owned(),
            ));
        }
        if let (Some(min), Some(max)) = (&min, &max)
            && min.get_ref() > max.get_ref()
        {
            return Err(self.error(
                min.span(),
                format!(
                    "no number is at least {} and at most {}",
                    min.get_ref(),
                    max.get_ref()
                ),
                "write the smaller as `min`".to_owned(),
            ));
        }
        let mut values = Vec::new();
        for value in one_of.iter().flatten() {
            values.push(self.value(quantity, value)?);
        }
        let number = |n: Option<Spanned<f64>>| n.map(Spanned::into_inner);
        Ok(Bounds {
            min: number(min),
            max: number(max),
            multiple_of: number(multiple_of),
            one_of: one_of.map(|_| values),
        })
    }

    fn types(&self, names: &[Spanned<RawValue>]) -> Result<Vec<DType>, TargetError> {
        let mut types = Vec::new();
        for name in names {
            let word = self.value(Quantity::Type, name)?.to_string();
            types.extend(DTYPES.iter().copied().filter(|t| t.to_string() == word));
        }
        Ok(types)
    }

    fn value(&self, quantity: Quantity, raw: &Spanned<RawValue>) -> Result<Value, TargetError> {
        let value = match raw.get_ref() {
            RawValue::Flag(flag) => Value::Flag(*flag),
            RawValue::Integer(number) => Value::Number(*number as f64),
            RawValue::Number(number) => Value::Number(*number),
            RawValue::Word(word) => Value::Word(word.clone()),
        };
        let fits = match (quantity, &value) {
            (Quantity::Attribute, _) => true,
            (Quantity::Type, Value::Word(word)) => {
                let known: Vec<String> = DTYPES.iter().map(DType::to_string).collect();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                if !known.contains(&word.as_str()) {
                    let name = Spanned::new(raw.span(), word.clone());
                    return Err(self.unknown("element type", &name, &known));
                }
                true
            }
            (_, Value::Word(_)) => false,
            (_, Value::Flag(_)) => !quantity.is_number(),
            (_, Value::Number(_)) => quantity.is_number(),
        };
        if !fits {
            let kind = match quantity {
                Quantity::Type => "an element type such as \"int8\"",
                _ if quantity.is_number() => "a number",
                _ => "true or false",
            };
            return Err(self.error(
                raw.span(),
                format!("{} is never {value}", quantity.name()),
                format!("write {kind}"),
            ));
        }
        Ok(value)
    }
}

/// The element types that a pack can name.
const DTYPES: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::F64,
    DType::BF16,
    DType::I4,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
    DType::Complex64,
    DType::Complex128,
    DType::String,
    DType::Resource,
    DType::Variant,
];

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: &str = r#"
name = "chip"
title = "A chip"
about = "For tests."
[[ops]]
names = ["CONV_2D", "ADD"]
max-version = 3
[[rules]]
id = "few"
says = "few elements"
evidence = "none"
require = { measure = "elements", of = "outputs", max = 10 }
"#;

    #[track_caller]
    fn complains(from: &str, to: &str) -> String {
        let text = PACK.replacen(from, to, 1);
        assert_ne!(text, PACK);
        Target::parse(&text, "chip.toml").unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_has_a_line_and_a_suggestion() {
        assert!(Target::parse(PACK, "chip.toml").is_ok());
        for (from, to, line, message) in [
            (
                "max-version",
                "max-versions",
                7,
                "did you mean `max-version`",
            ),
            ("\"ADD\"", "\"ADDD\"", 6, "did you mean `ADD`"),
            (
                "measure = \"elements\"",
                "measure = \"element\"",
                12,
                "did you mean `elements`",
            ),
            ("outputs", "output", 12, "did you mean `outputs`"),
            ("max-version = 3", "max-version = 0", 7, "at least 1"),
            ("max = 10", "max = \"ten\"", 12, "f64"),
            ("max = 10", "max = nan", 12, "finite"),
            ("max = 10", "min = 11, max = 10", 12, "smaller"),
            ("max = 10", "in = [\"ten\"]", 12, "write a number"),
            (", max = 10", "", 12, "without bounds"),
            ("of = \"outputs\"", "axis = 1", 12, "dimension"),
            ("of = \"outputs\"", "axes = [1]", 12, "product"),
            ("\"elements\"", "\"product\"", 12, "needs it"),
            (
                "of = \"outputs\"",
                "types = [\"int88\"]",
                12,
                "did you mean `int8`",
            ),
            (
                "measure = \"elements\"",
                "measure = \"type\"",
                12,
                "is no number",
            ),
            (
                "measure = \"elements\", of = \"outputs\"",
                "measure = \"attribute\", attribute = \"stride_g\"",
                12,
                "stride_",
            ),
            ("name = \"chip\"", "name = \"A chip\"", 2, "small letters"),
            ("id = \"few\"", "id = \"not-in-table\"", 9, "of its own"),
            ("require", "requires", 12, "`require`"),
            ("evidence = \"none\"\n", "", 8, "missing field `evidence`"),
        ] {
            let error = complains(from, to);
            assert!(
                error.starts_with(&format!("chip.toml:{line}: ")),
                "{to}: {error}"
            );
            assert!(error.contains(message), "{to}: {error}");
        }
    }

    #[test]
    fn a_pack_that_extends_another_adds_to_it() {
        let text = r#"
name = "mine"
title = "Mine"
about = "For tests."
extends = "edgetpu"
[[rules]]
id = "few"
says = "few elements"
evidence = "none"
require = { measure = "elements", of = "outputs", max = 10 }
"#;
        let base = Target::named("edgetpu").unwrap();
        let mine = Target::parse(text, "mine.toml").unwrap();
        assert_eq!(mine.name(), "mine");
        assert_eq!(mine.policy(), base.policy());
        assert_eq!(mine.entries(), base.entries());
        assert_eq!(mine.rules.len(), base.rules.len() + 1);
        let error = |from, to| {
            let text = text.replacen(from, to, 1);
            Target::parse(&text, "mine.toml").unwrap_err().to_string()
        };
        assert!(error("\"edgetpu\"", "\"edgetpuu\"").contains("did you mean `edgetpu`"));
        assert!(error("\"edgetpu\"", "\"cpu\"").contains("unknown pack `cpu`"));
        assert!(error("\"few\"", "\"max-rank\"").contains("there already"));
    }

    #[test]
    fn cut_and_mutated_packs_are_errors_or_packs_and_never_a_panic() {
        for (_, text) in super::super::BUILTIN {
            for end in (0..text.len())
                .step_by(97)
                .filter(|&end| text.is_char_boundary(end))
            {
                let _ = Target::parse(&text[..end], "cut");
            }
        }
        let bytes = PACK.as_bytes();
        for place in 0..bytes.len() {
            for byte in [b'"', b'[', b'=', b'-', b'9', b'\n', 0xff, 0] {
                let mut mutated = bytes.to_vec();
                mutated[place] = byte;
                let _ = Target::parse(&String::from_utf8_lossy(&mutated), "mutated");
            }
        }
    }
}
