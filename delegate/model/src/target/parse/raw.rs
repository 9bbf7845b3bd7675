//! The tables of a pack as TOML has them: every key, and nothing checked but the kind of its value.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use toml::Spanned;

use super::Name;
use crate::target::Source;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPack {
    pub name: Name,
    pub title: String,
    pub about: String,
    pub extends: Option<Name>,
    #[serde(default)]
    pub sources: Vec<Source>,
    pub partition: Option<RawPartition>,
    #[serde(default)]
    pub memory: Option<Spanned<RawMemory>>,
    #[serde(default)]
    pub statuses: BTreeMap<Name, String>,
    #[serde(default)]
    pub groups: HashMap<String, Vec<Name>>,
    #[serde(default)]
    pub cpu_kernels: bool,
    #[serde(default)]
    pub ops: Vec<RawEntry>,
    #[serde(default)]
    pub rules: Vec<RawRule>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawPartition {
    pub which: RawWhich,
    pub min_ops: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawWhich {
    First,
    #[default]
    All,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawMemory {
    pub cache_bytes: Spanned<i64>,
    #[serde(default)]
    pub streams: bool,
    pub parameter_growth: Option<Spanned<[f64; 2]>>,
    pub activation_bytes: Option<Spanned<i64>>,
    pub evidence: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawEntry {
    pub names: Vec<Name>,
    pub max_version: Option<Spanned<i64>>,
    pub note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawRule {
    pub id: Name,
    pub says: String,
    pub evidence: String,
    #[serde(default)]
    pub inferred: bool,
    #[serde(default)]
    pub effect: RawEffect,
    pub ops: Option<Vec<Name>>,
    pub except: Option<Vec<Name>>,
    pub when: Option<Spanned<RawCondition>>,
    pub unless: Option<Spanned<RawCondition>>,
    pub require: Spanned<RawCondition>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawEffect {
    #[default]
    Refuse,
    Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCondition {
    pub any: Option<Vec<Spanned<RawCondition>>>,
    pub all: Option<Vec<Spanned<RawCondition>>>,
    pub not: Option<Box<Spanned<RawCondition>>>,
    pub measure: Option<Name>,
    pub of: Option<Name>,
    pub types: Option<Vec<Spanned<RawValue>>>,
    pub axis: Option<i64>,
    pub axes: Option<Vec<i64>>,
    pub attribute: Option<Name>,
    pub at: Option<Vec<usize>>,
    #[serde(default)]
    pub some: bool,
    pub min: Option<Spanned<f64>>,
    pub max: Option<Spanned<f64>>,
    pub multiple_of: Option<Spanned<f64>>,
    pub r#in: Option<Vec<Spanned<RawValue>>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number, a word, true or false")]
pub(super) enum RawValue {
    Flag(bool),
    Integer(i64),
    Number(f64),
    Word(String),
}
