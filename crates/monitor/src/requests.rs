//! What the engine may ask, request by request.

use std::os::fd::{AsFd as _, OwnedFd};

use super::client::Client;
use super::protocol::{self, Answer, Failure, FailureClass, Request, Status};
use super::runner::{Runner, StdioPlan};
use super::session::Session;
use super::supervisor::Supervisor;
use cais_runtime::spec;

/// Execs that run at once at most; each holds a few descriptors.
const EXECS_AT_ONCE: usize = 1000;

struct ExecRequest {
    exec_id: String,
    process: Box<spec::Process>,
    stdin: bool,
    client: Option<Client>,
}

impl<R: Runner> Supervisor<R> {
    /// Does what a request asks; `connection` brings the descriptors.
    pub(super) fn answer(
        &mut self,
        connection: usize,
        request: Request,
    ) -> Result<Answer, Failure> {
        match request {
            Request::Create { netns } => self.create(connection, netns),
            Request::Start => self.start(connection),
            Request::Attach(client) => {
                let client = self.client(connection, client)?;
                self.sessions[0].attach(client);
                Ok(Answer::Done)
            }
            Request::Exec {
                exec_id,
                process,
                stdin,
                client,
            } => {
                let client = match client {
                    Some(client) => Some(self.client(connection, client)?),
                    None => None,
                };
                self.exec(ExecRequest {
                    exec_id,
                    process,
                    stdin,
                    client,
                })
            }
            Request::Resize {
                exec_id,
                rows,
                columns,
            } => self.resize(exec_id, rows, columns),
            Request::Kill { signal } => self.kill(signal),
            Request::Status => Ok(Answer::Status(self.status())),
        }
    }

    /// Takes the socket that came with a request.
    fn client(&mut self, connection: usize, request: protocol::Client) -> Result<Client, Failure> {
        let socket = self.connections[connection]
            .take_descriptor()
            .ok_or_else(missing)?;
        Ok(Client::new(socket, request))
    }

    fn create(&mut self, connection: usize, netns: bool) -> Result<Answer, Failure> {
        if self.started {
            return Err(Failure::new(
                FailureClass::Invalid,
                "container is already started",
            ));
        }
        let network = match netns {
            true => Some(
                self.connections[connection]
                    .take_descriptor()
                    .ok_or_else(missing)?,
            ),
            false => None,
        };
        let result = self.create_init(network);
        // There is no second try: the engine launches a new monitor.
        self.abandoned = result.is_err();
        result
    }

    fn create_init(&mut self, network: Option<OwnedFd>) -> Result<Answer, Failure> {
        let (stdio, streams) = self.sessions[0].plan().open()?;
        self.runner.create(stdio, network)?;
        self.streams = streams;
        Ok(Answer::Done)
    }

    fn start(&mut self, connection: usize) -> Result<Answer, Failure> {
        if self.started {
            return Err(Failure::new(
                FailureClass::Invalid,
                "container is already started",
            ));
        }
        // An engine that comes after this look finds the socket that listens here. One that came before took a container
        // whose engine had died for not started, and nobody may prove it wrong.
        if self.connections[connection].is_hung_up() {
            self.abandoned = true;
            return Err(Failure::new(
                FailureClass::Internal,
                "the engine went away before the start",
            ));
        }
        let result = self.start_init();
        self.abandoned = result.is_err();
        self.started = result.is_ok();
        self.untidy = true;
        result
    }

    fn start_init(&mut self) -> Result<Answer, Failure> {
        self.sessions[0].connect(std::mem::take(&mut self.streams))?;
        let started = self.runner.start()?;
        let identity = started.running.identity;
        self.sessions[0].started(started.running, started.console)?;
        Ok(Answer::Process(identity))
    }

    fn exec(&mut self, request: ExecRequest) -> Result<Answer, Failure> {
        if self.sessions[0].process.is_none() {
            return Err(not_running());
        }
        if self.sessions.len() > EXECS_AT_ONCE {
            return Err(Failure::new(
                FailureClass::Internal,
                "too many execs run at once",
            ));
        }
        let plan = StdioPlan {
            terminal: request.process.terminal,
            input: request.stdin && request.client.is_some(),
            output: request.client.is_some(),
        };
        let mut session = Session::new(Some(request.exec_id), plan, true, None);
        let (stdio, streams) = plan.open()?;
        session.connect(streams)?;
        let started = self.runner.exec(&request.process, stdio)?;
        let identity = started.running.identity;
        session.started(started.running, started.console)?;
        // Only now: of a failed exec the engine tells the client itself.
        if let Some(client) = request.client {
            session.attach(client);
        }
        self.sessions.push(session);
        Ok(Answer::Process(identity))
    }

    fn resize(
        &mut self,
        exec_id: Option<String>,
        rows: u16,
        columns: u16,
    ) -> Result<Answer, Failure> {
        let session = self
            .sessions
            .iter_mut()
            .find(|session| session.exec_id == exec_id);
        session.ok_or_else(not_running)?.resize(rows, columns)?;
        Ok(Answer::Done)
    }

    fn kill(&mut self, signal: i32) -> Result<Answer, Failure> {
        let process = self.sessions[0].process.as_ref().ok_or_else(not_running)?;
        match cais_sys::pidfd::send_signal(process.pidfd.as_fd(), signal) {
            Ok(()) => Ok(Answer::Done),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                Err(not_running())
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Err(Failure::new(
                FailureClass::Invalid,
                format!("invalid signal: {signal}"),
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn status(&self) -> Status {
        let running = self.sessions[1..].iter().filter_map(|session| {
            let identity = session.process.as_ref()?.identity;
            Some((session.exec_id.clone()?, identity))
        });
        Status {
            init: self.sessions[0]
                .process
                .as_ref()
                .map(|process| process.identity),
            running: running.collect(),
            ended: self.ended.iter().cloned().collect(),
        }
    }
}

fn missing() -> Failure {
    Failure::new(
        FailureClass::Invalid,
        "the request came without its descriptor",
    )
}

fn not_running() -> Failure {
    Failure::new(FailureClass::NotRunning, "container is not running")
}
