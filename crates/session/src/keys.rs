//! What of an agent's protocol (draft-ietf-sshm-ssh-agent, section 3) a build may use: the list of keys, and signatures.
//! Nothing that adds, removes or locks keys goes through.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const ALLOWED: [u8; 2] = [11, 13];
/// A message of one byte, `SSH_AGENT_FAILURE`.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// The most bytes of a message, as OpenSSH's agent has it.
const MAX: usize = 256 * 1024;

/// Passes requests of `client` on to `agent` and its answers back, one at a time, until the client ends.
pub async fn relay(
    client: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    agent: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let (mut from_client, mut to_client) = client;
    let (mut from_agent, mut to_agent) = agent;
    while let Some(request) = message(&mut from_client).await? {
        if !request.get(4).is_some_and(|kind| ALLOWED.contains(kind)) {
            to_client.write_all(&FAILURE).await?;
            continue;
        }
        to_agent.write_all(&request).await?;
        match message(&mut from_agent).await? {
            Some(answer) => to_client.write_all(&answer).await?,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// A message with its length before it (`u32`, big-endian); none at the end.
async fn message(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut message = vec![0; 4];
    match reader.read_exact(&mut message).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    };
    let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]) as usize;
    if length > MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message for the agent is too long",
        ));
    }
    message.resize(4 + length, 0);
    reader.read_exact(&mut message[4..]).await?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use tokio::io::{duplex, split};

    use super::*;

    #[tokio::test]
    async fn a_build_reads_keys_and_signs_and_nothing_else() {
        let (client, ours) = duplex(1024);
        let (theirs, agent) = duplex(1024);
        let relay = relay(split(ours), split(theirs));
        let talk = async move {
            let (mut client, mut agent) = (client, agent);
            // Remove all identities: refused here, the agent never sees it.
            client.write_all(&[0, 0, 0, 1, 19]).await?;
            assert_eq!(message(&mut client).await?, Some(FAILURE.to_vec()));
            client.write_all(&[0, 0, 0, 1, 11]).await?;
            assert_eq!(message(&mut agent).await?, Some(vec![0, 0, 0, 1, 11]));
            agent.write_all(&[0, 0, 0, 2, 12, 0]).await?;
            assert_eq!(message(&mut client).await?, Some(vec![0, 0, 0, 2, 12, 0]));
            io::Result::Ok(())
        };
        let (relayed, talked) = tokio::join!(relay, talk);
        talked.unwrap();
        relayed.unwrap();
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_ends_the_relay() {
        let (mut client, ours) = duplex(1024);
        let (theirs, _agent) = duplex(1024);
        client.write_all(&[0xff, 0, 0, 0, 11]).await.unwrap();
        assert!(relay(split(ours), split(theirs)).await.is_err());
    }
}
