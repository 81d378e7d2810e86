//! Answers that a container got since names last changed: most containers ask the same few questions again and again, and
//! the same bytes get the same answer.

use std::collections::HashMap;

/// Bytes of the id, which every question has of its own.
const ID: usize = 2;
/// Questions of one container; more are the sign of one that never asks twice.
const MOST: usize = 256;
/// The longest question that is kept.
const LONGEST: usize = 300;

/// The answers of one container.
#[derive(Debug, Default)]
pub struct Remembered {
    version: u64,
    answers: HashMap<Box<[u8]>, Box<[u8]>>,
}

impl Remembered {
    /// Puts the answer to a question into `out`, when it is known at this version of the names.
    pub fn answer(&mut self, version: u64, packet: &[u8], out: &mut Vec<u8>) -> bool {
        if self.version != version {
            self.version = version;
            self.answers.clear();
        }
        let known = packet.get(ID..).and_then(|rest| self.answers.get(rest));
        let Some(answer) = known else {
            return false;
        };
        out.clear();
        out.extend_from_slice(&packet[..ID]);
        out.extend_from_slice(answer);
        true
    }

    /// Keeps an answer that was found at this version. One with several records is not kept: their order is drawn anew each
    /// time.
    pub fn keep(&mut self, version: u64, packet: &[u8], answer: &[u8]) {
        let one_record = answer.get(6..8).is_some_and(|count| count <= &[0, 1][..]);
        if version != self.version || !one_record || packet.len() > LONGEST {
            return;
        }
        if self.answers.len() >= MOST {
            self.answers.clear();
        }
        self.answers
            .insert(packet[ID..].into(), answer[ID..].into());
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\0\x01question";

    fn asked_again(remembered: &mut Remembered, version: u64) -> Option<Vec<u8>> {
        let mut out = b"old".to_vec();
        let known = remembered.answer(version, b"\0\x02question", &mut out);
        known.then_some(out)
    }

    #[test]
    fn the_same_question_gets_the_same_answer_under_its_own_id() {
        let mut remembered = Remembered::default();
        assert_eq!(asked_again(&mut remembered, 1), None);
        remembered.keep(1, QUESTION, b"\0\x01....\0\x01rest");
        let expected = b"\0\x02....\0\x01rest".to_vec();
        assert_eq!(asked_again(&mut remembered, 1), Some(expected));
        assert_eq!(asked_again(&mut remembered, 2), None, "names changed");
        assert_eq!(asked_again(&mut remembered, 1), None, "and it is gone");
    }

    #[test]
    fn answers_of_an_older_version_and_those_in_random_order_are_not_kept() {
        let mut remembered = Remembered::default();
        assert_eq!(asked_again(&mut remembered, 2), None);
        remembered.keep(1, QUESTION, b"\0\x01....\0\x01rest");
        remembered.keep(2, QUESTION, b"\0\x01....\0\x02rest");
        remembered.keep(2, QUESTION, b"\0\x01....\x01\0rest");
        assert_eq!(asked_again(&mut remembered, 2), None);
    }

    #[test]
    fn memory_has_a_bound() {
        let mut remembered = Remembered::default();
        for number in 0..10 * MOST {
            let question = [b"\0\x01", number.to_be_bytes().as_slice()].concat();
            remembered.keep(0, &question, b"\0\x01....\0\x01rest");
            assert!(remembered.answers.len() <= MOST);
        }
        remembered.keep(0, &[0; LONGEST + 1], b"\0\x01....\0\x01rest");
        remembered.clear();
        remembered.keep(0, &[0; LONGEST + 1], b"\0\x01....\0\x01rest");
        assert!(remembered.answers.is_empty());
    }
}
