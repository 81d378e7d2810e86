//! What an event of the epoll set is about.

/// One of the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// There are commands.
    Wake,
    /// A container's datagram socket.
    Datagrams(usize),
    /// A container's listener.
    Listener(usize),
    /// A connection of a client.
    Stream(usize),
    /// The way to a resolver outside: the question's place, and the resolver's.
    Outside(usize, u8),
}

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        let pack =
            |kind: u64, key: usize, part: u8| kind | u64::from(part) << 8 | (key as u64) << 16;
        match token {
            Token::Wake => pack(0, 0, 0),
            Token::Datagrams(key) => pack(1, key, 0),
            Token::Listener(key) => pack(2, key, 0),
            Token::Stream(key) => pack(3, key, 0),
            Token::Outside(key, part) => pack(4, key, part),
        }
    }
}

impl From<u64> for Token {
    fn from(number: u64) -> Self {
        let key = (number >> 16) as usize;
        let [kind, part, ..] = number.to_le_bytes();
        match kind {
            1 => Self::Datagrams(key),
            2 => Self::Listener(key),
            3 => Self::Stream(key),
            4 => Self::Outside(key, part),
            _ => Self::Wake,
        }
    }
}
