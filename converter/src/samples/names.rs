//! Samples by the names that people write for them.

use std::collections::HashMap;

/// Finds a sample by the name of its file: with its folders or without them, with its ending or without it.
#[derive(Debug, Default)]
pub struct Names {
    /// How exact the name is, the lower the more, and the sample that has it, unless several do.
    places: HashMap<String, (usize, Option<usize>)>,
}

impl Names {
    /// For samples with these names, folders before `/`.
    pub fn new(names: &[String]) -> Self {
        let mut places: HashMap<String, (usize, Option<usize>)> = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            let file = last(name);
            let ending = file.rfind('.').map_or(0, |dot| file.len() - dot);
            let forms = [name, file].map(|name| [name, &name[..name.len() - ending]]);
            let forms = forms.into_iter().flatten();
            for (level, form) in forms.enumerate() {
                let place = places
                    .entry(form.to_owned())
                    .or_insert((level, Some(index)));
                if level < place.0 {
                    *place = (level, Some(index));
                } else if level == place.0 && place.1 != Some(index) {
                    place.1 = None;
                }
            }
        }
        Self { places }
    }

    /// The sample that `name` means, if it means one: by the whole name, else by what is behind the last `/`.
    pub fn find(&self, name: &str) -> Option<usize> {
        let name = name.replace('\\', "/");
        let name = name.strip_prefix("./").unwrap_or(&name);
        let found = self
            .places
            .get(name)
            .or_else(|| self.places.get(last(name)));
        found.and_then(|(_, index)| *index)
    }
}

fn last(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_the_name_as_far_as_it_is_written() {
        let names = ["a/1.png", "b/1.png", "b/2.x.png", "2"].map(String::from);
        let names = Names::new(&names);
        for (name, found) in [
            ("a/1.png", Some(0)),
            ("./b/1.png", Some(1)),
            ("b\\1.png", Some(1)),
            ("a/1", Some(0)),
            ("1.png", None),
            ("1", None),
            ("val/2.x.png", Some(2)),
            ("2.x", Some(2)),
            ("2", Some(3)),
            ("3", None),
            ("", None),
        ] {
            assert_eq!(names.find(name), found, "{name}");
        }
    }
}
