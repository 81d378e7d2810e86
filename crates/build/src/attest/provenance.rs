//! How an image was built, as SLSA's predicates of version 0.2 and 1 in the fields that BuildKit fills (its
//! slsa-definitions.md). Steps are those of the Dockerfile: there is no LLB behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cais_types::oci::Platform;
use cais_types::oci::set::Statement;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::options::{Provenance, Version};
use crate::dockerfile::Kind;
use crate::dockerfile::instruction::NetworkMode;
use crate::plan::{Base, Plan};
use crate::request::BuildRequest;

const V02: &str = "https://slsa.dev/provenance/v0.2";
const V1: &str = "https://slsa.dev/provenance/v1";
const TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";
const TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// What came into a build from outside of its context.
#[derive(Default)]
pub struct Sources(Mutex<Noted>);

#[derive(Clone, Default)]
struct Noted {
    /// URI and SHA-256, where it has one.
    materials: BTreeSet<(String, Option<String>)>,
    /// Ids, and whether the build goes on without.
    secrets: BTreeMap<String, bool>,
    agents: BTreeMap<String, bool>,
}

impl Sources {
    /// Something that was fetched; `sha256` in hex digits.
    pub fn material(&self, uri: String, sha256: Option<String>) {
        self.noted().materials.insert((uri, sha256));
    }

    /// A secret that was lent.
    pub fn secret(&self, id: &str, optional: bool) {
        self.noted().secrets.insert(id.to_owned(), optional);
    }

    /// An agent that was lent.
    pub fn agent(&self, id: &str, optional: bool) {
        self.noted().agents.insert(id.to_owned(), optional);
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build that has ended.
pub struct Facts<'a> {
    pub request: &'a BuildRequest,
    pub plan: &'a Plan,
    pub sources: &'a Sources,
    pub started: Timestamp,
    pub finished: Timestamp,
}

impl Facts<'_> {
    /// The predicate that is asked for.
    pub fn statement(&self, wanted: &Provenance) -> Statement {
        let (predicate_type, predicate) = match wanted.version {
            Version::V02 => (V02, self.v02(wanted)),
            Version::V1 => (V1, self.v1(wanted)),
        };
        Statement {
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    fn v02(&self, wanted: &Provenance) -> Value {
        let mut own = Map::new();
        if wanted.max {
            own.insert("source".to_owned(), self.source());
        }
        let mut predicate = json!({
            "builder": { "id": wanted.builder },
            "buildType": TYPE_V02,
            "materials": self.materials(),
            "invocation": {
                "configSource": self.config_source("entryPoint"),
                "parameters": self.parameters(wanted.max),
                "environment": { "platform": Platform::host().to_string() },
            },
            "metadata": {
                "buildInvocationID": self.request.id,
                "buildStartedOn": self.started.to_string(),
                "buildFinishedOn": self.finished.to_string(),
                "completeness": {
                    "parameters": wanted.max,
                    "environment": true,
                    "materials": self.request.remote.is_some(),
                },
                "reproducible": wanted.reproducible,
                "https://mobyproject.org/buildkit@v1#hermetic": self.is_hermetic(),
                "https://mobyproject.org/buildkit@v1#metadata": own,
            },
        });
        if wanted.max {
            predicate["buildConfig"] = self.steps();
        }
        predicate
    }

    fn v1(&self, wanted: &Provenance) -> Value {
        let mut own = Map::new();
        let mut internal = json!({ "builderPlatform": Platform::host().to_string() });
        if wanted.max {
            own.insert("source".to_owned(), self.source());
            internal["buildConfig"] = self.steps();
        }
        json!({
            "buildDefinition": {
                "buildType": TYPE_V1,
                "externalParameters": {
                    "configSource": self.config_source("path"),
                    "request": self.parameters(wanted.max),
                },
                "internalParameters": internal,
                "resolvedDependencies": self.materials(),
            },
            "runDetails": {
                "builder": { "id": wanted.builder },
                "metadata": {
                    "invocationID": self.request.id,
                    "startedOn": self.started.to_string(),
                    "finishedOn": self.finished.to_string(),
                    "buildkit_metadata": own,
                    "buildkit_hermetic": self.is_hermetic(),
                    "buildkit_completeness": {
                        "request": wanted.max,
                        "resolvedDependencies": self.request.remote.is_some(),
                    },
                    "buildkit_reproducible": wanted.reproducible,
                },
            },
        })
    }

    fn config_source(&self, file: &str) -> Value {
        let mut source = json!({ file: self.request.dockerfile.name });
        if let Some(remote) = &self.request.remote {
            source["uri"] = json!(remote);
        }
        source
    }

    fn parameters(&self, max: bool) -> Value {
        let request = self.request;
        let mut args = Map::new();
        let mut add = |key: String, value: &str| args.insert(key, json!(value));
        if max {
            for (name, value) in &request.build_args {
                add(format!("build-arg:{name}"), value);
            }
            for (name, value) in &request.labels {
                add(format!("label:{name}"), value);
            }
        }
        if !request.target.is_empty() {
            add("target".to_owned(), &request.target);
        }
        let mut parameters = json!({ "frontend": "dockerfile.v0", "args": args });
        if request.remote.is_none() {
            let contexts = request.contexts.keys().map(String::as_str);
            let names = ["context", "dockerfile"].into_iter().chain(contexts);
            let locals: Vec<Value> = names.map(|name| json!({ "name": name })).collect();
            parameters["locals"] = json!(locals);
        }
        let noted = self.sources.noted();
        for (key, ids) in [("secrets", &noted.secrets), ("ssh", &noted.agents)] {
            if max && !ids.is_empty() {
                let ids = ids.iter();
                let ids = ids.map(|(id, optional)| json!({ "id": id, "optional": optional }));
                parameters[key] = ids.collect();
            }
        }
        parameters
    }

    fn materials(&self) -> Value {
        let noted = self.sources.noted();
        let material = |(uri, sha256): &(String, Option<String>)| {
            let mut material = json!({ "uri": uri });
            if let Some(sha256) = sha256 {
                material["digest"] = json!({ "sha256": sha256 });
            }
            material
        };
        noted.materials.iter().map(material).collect()
    }

    /// Whether no step could reach a network.
    fn is_hermetic(&self) -> bool {
        let stages = self.plan.stages.iter();
        let stages = stages.map(|planned| &self.plan.file.stages[planned.index]);
        let mut steps = stages.flat_map(|stage| &stage.instructions);
        let alone = self.request.network == "none";
        steps.all(|step| match &step.kind {
            Kind::Run(run) => {
                run.network == NetworkMode::None || (alone && run.network == NetworkMode::Default)
            }
            _ => true,
        })
    }

    /// The Dockerfile, and which lines of it made which step.
    fn source(&self) -> Value {
        let file = &self.request.dockerfile;
        let locations: Map<String, Value> = self
            .numbered()
            .map(|(id, lines, _)| {
                let range =
                    json!({ "start": { "line": lines.start }, "end": { "line": lines.end } });
                (id, json!({ "locations": [{ "ranges": [range] }] }))
            })
            .collect();
        json!({
            "locations": locations,
            "infos": [{
                "filename": file.name,
                "language": "Dockerfile",
                "data": STANDARD.encode(&file.text),
            }],
        })
    }

    /// The steps of all stages that were built, each with those it stands on.
    fn steps(&self) -> Value {
        let steps = self.numbered();
        let steps: Vec<Value> = steps.map(|(_, _, step)| step).collect();
        json!({ "steps": steps })
    }

    fn numbered(&self) -> impl Iterator<Item = (String, crate::dockerfile::Lines, Value)> {
        let plan = self.plan;
        plan.stages.iter().flat_map(move |planned| {
            let stage = &plan.file.stages[planned.index];
            let number = |step: usize| format!("step-{}-{step}", planned.index);
            let below = match &planned.base {
                Base::Stage(index) => {
                    let last = plan.file.stages[*index].instructions.len();
                    vec![format!("step-{index}-{last}")]
                }
                _ => Vec::new(),
            };
            let platform = planned.platform.as_ref().unwrap_or(&plan.platform);
            let all = std::iter::once(&stage.instruction).chain(&stage.instructions);
            all.enumerate().map(move |(place, instruction)| {
                let inputs = match place {
                    0 => below.clone(),
                    _ => vec![number(place - 1)],
                };
                let step = json!({
                    "id": number(place),
                    "instruction": instruction.text,
                    "platform": platform.to_string(),
                    "inputs": inputs,
                });
                (number(place), instruction.lines, step)
            })
        })
    }
}
