//! The known word that a misspelt one is closest to.

/// Edits that still count as close.
const NEAR: usize = 2;

/// The option that is at most two edits away, letters of any case; none when the word is an option.
pub fn closest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let mut best = None;
    for option in options {
        let distance = distance(&word, &option.to_lowercase());
        if distance == 0 {
            return None;
        }
        if distance <= NEAR && best.is_none_or(|(known, _)| distance < known) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option)
}

/// ` (did you mean X?)` when a known word is close.
pub(super) fn hint<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, options).map_or(String::new(), |near| format!(" (did you mean {near}?)"))
}

/// Levenshtein's distance; words longer than any option are far away without counting.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one.len().abs_diff(other.len()) > NEAR {
        return NEAR + 1;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.iter().enumerate() {
        let mut corner = row[0];
        row[0] = index + 1;
        for (place, against) in other.iter().enumerate() {
            let changed = corner + usize::from(letter != against);
            corner = row[place + 1];
            row[place + 1] = changed.min(corner + 1).min(row[place] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_word_is_found_and_a_far_one_is_not() {
        let options = ["RUN", "COPY", "ENTRYPOINT"];
        assert_eq!(closest("RUNN", options), Some("RUN"));
        assert_eq!(closest("cpoy", options), Some("COPY"));
        assert_eq!(closest("run", options), None);
        assert_eq!(closest("VOLUMES", options), None);
    }
}
