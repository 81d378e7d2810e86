//! Looks for the detach key sequence in what a client types.

/// Matches a key sequence across reads.
#[derive(Debug)]
pub struct DetachKeys {
    keys: Vec<u8>,
    /// How many keys have been seen and held back.
    matched: usize,
}

impl DetachKeys {
    /// An empty sequence never matches.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Appends to `out` what of `input` may go on to the process; true when the sequence was completed: what was typed after
    /// it is dropped.
    pub fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for &byte in input {
            while self.matched > 0 && self.keys[self.matched] != byte {
                self.give_back(out);
            }
            if self.keys[self.matched] != byte {
                out.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }

    /// Appends keys that were held back; for the end of input.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.keys[..self.matched]);
        self.matched = 0;
    }

    /// Passes on as many held keys as cannot be the start of the sequence any more.
    fn give_back(&mut self, out: &mut Vec<u8>) {
        let held = &self.keys[..self.matched];
        let keep = (0..held.len())
            .rev()
            .find(|&length| held.ends_with(&self.keys[..length]))
            .unwrap_or(0);
        out.extend_from_slice(&held[..held.len() - keep]);
        self.matched = keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8], reads: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut matcher = DetachKeys::new(keys.to_vec());
        let mut out = Vec::new();
        for read in reads {
            if matcher.filter(read, &mut out) {
                return (out, true);
            }
        }
        matcher.finish(&mut out);
        (out, false)
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_the_rest_passes() {
        let keys = b"\x10\x11";
        assert_eq!(typed(keys, &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(typed(keys, &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(typed(keys, &[b"\x10x\x11"]), (b"\x10x\x11".to_vec(), false));
        assert_eq!(
            typed(keys, &[b"\x10", b"\x10\x11"]),
            (b"\x10".to_vec(), true)
        );
        assert_eq!(typed(keys, &[b"\x10"]), (b"\x10".to_vec(), false));
        assert_eq!(typed(b"aab", &[b"a", b"a", b"aab"]), (b"aa".to_vec(), true));
        assert_eq!(typed(b"x", &[b"1x2"]), (b"1".to_vec(), true));
        assert_eq!(typed(b"", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }
}
