//! The names that packs may use, and the nearest of them to one that they may not.

use crate::schema::tfl::BuiltinOperator;

pub(in crate::target) fn builtin_names() -> Vec<&'static str> {
    let codes = BuiltinOperator::ENUM_VALUES.iter();
    codes.filter_map(|code| code.variant_name()).collect()
}

/// The operator that the format calls `name`.
pub(in crate::target) fn builtin(name: &str) -> Option<BuiltinOperator> {
    let mut codes = BuiltinOperator::ENUM_VALUES.iter().copied();
    codes.find(|code| code.variant_name() == Some(name))
}

/// A hint with the nearest of `known` names, or all where none is near.
pub(in crate::target) fn did_you_mean(wrong: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (distance(wrong, name), name))
        .min()
        .filter(|&(far, name)| far <= 1 + name.len() / 3);
    match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None if known.len() <= 12 => format!("there is {}", known.join(", ")),
        None => "docs/targets.md lists the names".to_owned(),
    }
}

/// How many letters have to be changed, added or taken away.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        assert_eq!(distance("CONV2D", "CONV_2D"), 1);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
