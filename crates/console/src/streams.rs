//! Joins a hijacked connection to standard input, output and error.

use cais_client::{Demux, HijackReader, HijackWriter, Hijacked, StreamKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::error::{CliError, Result};
use crate::printer::Printer;
use crate::stdin::Stdin;
use crate::terminal::DetachScanner;

const BUFFER: usize = 32 << 10;

/// How a connection is joined.
#[derive(Clone, Debug, Default)]
pub struct Joining {
    /// Output is one raw stream.
    pub tty: bool,
    /// Standard input is sent.
    pub stdin: bool,
    /// Any output is wanted.
    pub output: bool,
    /// Key sequence that lets go, if it is watched for.
    pub detach: Option<Vec<u8>>,
}

/// Why the streams came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The daemon closed them: the process is done, or was detached there.
    Closed,
    /// The user pressed the detach keys.
    Detached,
}

/// Copies until the output ends, or the input if no output is wanted.
///
/// # Errors
/// Output that cannot be read or written.
pub async fn join(connection: Hijacked, joining: Joining, printer: Printer) -> Result<Ended> {
    let Hijacked {
        reader,
        writer,
        multiplexed,
    } = connection;
    let framed = multiplexed.unwrap_or(!joining.tty) && !joining.tty;
    let output = copy_output(reader, framed, printer);
    tokio::pin!(output);
    if !joining.stdin {
        output.await?;
        drop(writer);
        return Ok(Ended::Closed);
    }
    let input = copy_input(writer, joining.detach.map(DetachScanner::new));
    tokio::pin!(input);
    tokio::select! {
        result = &mut output => {
            result?;
            Ok(Ended::Closed)
        }
        (ended, writer) = &mut input => {
            if ended == Ended::Closed && joining.output {
                output.await?;
            }
            drop(writer);
            Ok(ended)
        }
    }
}

async fn copy_output(mut reader: HijackReader, framed: bool, printer: Printer) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut demux = Demux::new();
    loop {
        let read = match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if framed {
            write_frames(&mut demux, &buffer[..read], printer)?;
        } else {
            printer.out_bytes(&buffer[..read])?;
        }
    }
}

/// Writes the payload of frames to where it belongs.
///
/// # Errors
/// A malformed frame, a message of the daemon about the stream, or output that cannot be written.
pub fn write_frames(demux: &mut Demux, mut piece: &[u8], printer: Printer) -> Result<()> {
    while let Some((kind, payload)) = demux.next(&mut piece)? {
        match kind {
            StreamKind::Stdin | StreamKind::Stdout => printer.out_bytes(payload)?,
            StreamKind::Stderr => printer.err_bytes(payload)?,
            StreamKind::System => {
                let text = String::from_utf8_lossy(payload);
                return Err(CliError::new(format!(
                    "error from daemon in stream: {text}"
                )));
            }
        }
    }
    Ok(())
}

/// Sends standard input, then half-closes. A peer that takes no more input ends it as well.
async fn copy_input(
    mut writer: HijackWriter,
    mut scanner: Option<DetachScanner>,
) -> (Ended, HijackWriter) {
    let stdin = Stdin::open();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let sent = match &mut scanner {
            None => writer.write_all(&buffer[..read]).await,
            Some(scanner) => {
                let (passed, detached) = scanner.scan(&buffer[..read]);
                let sent = writer.write_all(&passed).await;
                if detached {
                    return (Ended::Detached, writer);
                }
                sent
            }
        };
        if sent.is_err() {
            break;
        }
    }
    // The peer may be gone already.
    drop(writer.shutdown().await);
    (Ended::Closed, writer)
}
