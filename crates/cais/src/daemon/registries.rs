//! The registry client behind the engine's port.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use cais_distribution::client::{
    self as registry, Client, ClientConfig, Credentials, Event, ProgressSink, Proxies, PullRequest,
    PushRequest, RemoteFile,
};
use cais_images::Store;
use cais_services::images::Downloads;
use cais_services::pipe::Answers;
use cais_services::registry::{RegistryAccess, Transfer};
use cais_types::api::progress::TransferEvent;
use cais_types::api::query::{PullQuery, PushQuery};
use cais_types::api::{
    AuthConfig, AuthResponse, DistributionInspect, IndexInfo, RegistryConfig, SearchResult,
};
use cais_types::oci::set::{Annotations, CACHE_KEYS};
use cais_types::oci::{Document, ImageSet, Member};
use cais_types::{Digest, Reference, Result};
use futures_util::stream;

use super::options::Options;
use super::transfers::{PullInto, PushFrom};

/// Below the data root: what arrived of layers whose download broke off.
const PARTIAL: &str = "downloads";

/// The settings of the client.
pub fn config(options: &Options) -> ClientConfig {
    let mut config = ClientConfig {
        insecure_registries: options.insecure_registries.clone(),
        mirrors: options.registry_mirrors.clone(),
        max_concurrent_downloads: options.max_concurrent_downloads as usize,
        max_concurrent_uploads: options.max_concurrent_uploads as usize,
        attempts: options.max_download_attempts,
        partial_dir: Some(options.data_root.join(PARTIAL)),
        proxies: Proxies::from_variables(|name| std::env::var(name).ok()),
        ..ClientConfig::default()
    };
    for (flag, proxy) in [
        (&options.http_proxy, &mut config.proxies.http),
        (&options.https_proxy, &mut config.proxies.https),
        (&options.no_proxy, &mut config.proxies.no_proxy),
    ] {
        if flag.is_some() {
            proxy.clone_from(flag);
        }
    }
    if !options.registry_certs_dirs.is_empty() {
        config.certs_dirs.clone_from(&options.registry_certs_dirs);
    }
    config
}

/// What `info` shows of it.
pub fn facts(config: &ClientConfig) -> RegistryConfig {
    let mirrors: Vec<String> = config
        .mirrors
        .iter()
        .map(|url| format!("{}/", url.trim_end_matches('/')))
        .collect();
    let hub = IndexInfo {
        name: "docker.io".to_owned(),
        mirrors: mirrors.clone(),
        secure: true,
        official: true,
    };
    let mut facts = RegistryConfig {
        insecure_registry_cidrs: vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()],
        index_configs: BTreeMap::from([(hub.name.clone(), hub)]),
        mirrors: (!mirrors.is_empty()).then_some(mirrors),
    };
    for insecure in &config.insecure_registries {
        if insecure.contains('/') {
            if !facts.insecure_registry_cidrs.contains(insecure) {
                facts.insecure_registry_cidrs.push(insecure.clone());
            }
            continue;
        }
        let index = IndexInfo {
            name: insecure.clone(),
            ..IndexInfo::default()
        };
        facts.index_configs.insert(insecure.clone(), index);
    }
    facts
}

/// The proxies as `info` shows them, without the names and passwords in them.
pub fn shown_proxies(proxies: &Proxies) -> [String; 3] {
    let masked = |proxy: &Option<String>| {
        let text = proxy.clone().unwrap_or_default();
        let (scheme, rest) = text.split_once("://").unwrap_or(("", &text));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match host.rsplit_once('@') {
            Some((_, host)) if scheme.is_empty() => format!("xxxxx:xxxxx@{host}{path}"),
            Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}{path}"),
            None => text,
        }
    };
    let direct = proxies.no_proxy.clone().unwrap_or_default();
    [masked(&proxies.http), masked(&proxies.https), direct]
}

/// The client and the store it works on.
pub struct Access {
    client: Client,
    store: Arc<Store>,
}

impl Access {
    /// Reaches nothing yet.
    pub fn new(client: Client, store: Arc<Store>) -> Self {
        Self { client, store }
    }
}

/// Files behind URLs, and what the client keeps of downloads.
pub struct Web {
    pub client: Client,
    pub config: ClientConfig,
}

#[async_trait]
impl Downloads for Web {
    async fn open(&self, url: &str) -> Result<(Option<u64>, Answers<Bytes>)> {
        let file = RemoteFile::open(&self.config, url).await?;
        let size = file.size();
        let parts = stream::try_unfold(file, |mut file| async {
            Ok(file.next().await?.map(|part| (part, file)))
        });
        Ok((size, Box::pin(parts)))
    }

    fn partial_size(&self) -> u64 {
        self.client.partial_size()
    }

    fn drop_partials(&self, accepts: &dyn Fn(SystemTime) -> bool) -> u64 {
        self.client.drop_partials(accepts)
    }
}

#[async_trait]
impl RegistryAccess for Access {
    fn pull(&self, query: PullQuery) -> Transfer {
        let (sink, events) = registry::channel();
        let request = PullRequest {
            all_tags: query.reference.is_name_only(),
            reference: query.reference,
            platform: query.platform,
            auth: query.auth.and_then(credentials),
        };
        let client = self.client.clone();
        if query.whole {
            let store = Arc::clone(&self.store);
            return transfer(events, whole(client, store, request, sink));
        }
        let store = Arc::new(PullInto::new(Arc::clone(&self.store), query.holder));
        transfer(events, async move {
            let pulled = client.pull(request, store, sink).await?;
            Ok(pulled.into_iter().map(|one| one.image.id).collect())
        })
    }

    fn push(&self, query: PushQuery) -> Transfer {
        let (sink, events) = registry::channel();
        let request = PushRequest {
            all_tags: query.reference.is_name_only(),
            reference: query.reference,
            auth: query.auth.and_then(credentials),
        };
        let (client, images) = (self.client.clone(), Arc::clone(&self.store));
        let store = Arc::new(PushFrom {
            store: Arc::clone(&self.store),
            platform: query.platform,
        });
        transfer(events, async move {
            let pushed = client.push(request, store, sink).await?;
            let id = |name: &Reference| Some(images.resolve(&name.familiar()).ok()?.id);
            Ok(pushed.iter().filter_map(|one| id(&one.reference)).collect())
        })
    }

    async fn search(
        &self,
        term: &str,
        limit: Option<u32>,
        auth: Option<AuthConfig>,
    ) -> Result<Vec<SearchResult>> {
        let auth = auth.and_then(credentials);
        let found = self.client.search(term, limit, auth).await?.into_iter();
        Ok(found
            .map(|one| SearchResult {
                star_count: one.star_count,
                is_official: one.is_official,
                name: one.name,
                is_automated: one.is_automated,
                description: one.description,
            })
            .collect())
    }

    async fn login(&self, auth: AuthConfig) -> Result<AuthResponse> {
        let server = auth.server_address.clone();
        let credentials = credentials(auth).unwrap_or_default();
        let answer = self.client.login(&server, credentials).await?;
        Ok(AuthResponse {
            identity_token: answer.identity_token.unwrap_or_default(),
            status: answer.status,
        })
    }

    async fn inspect(
        &self,
        name: &Reference,
        auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect> {
        let found = self
            .client
            .inspect(name, auth.and_then(credentials))
            .await?;
        Ok(DistributionInspect {
            descriptor: found.descriptor,
            platforms: found.platforms,
        })
    }
}

/// Pulls all images of an index that is the cache of a build, and gives it its name; of anything else the image.
async fn whole(
    client: Client,
    store: Arc<Store>,
    request: PullRequest,
    sink: ProgressSink,
) -> Result<Vec<Digest>> {
    let found = client
        .get_manifest(&request.reference, request.auth.clone())
        .await?;
    let index = match Document::parse(&found.bytes, Some(&found.media_type)) {
        Ok(Document::Index(index)) => Some(index),
        _ => None,
    };
    let has_keys = |annotations: &Annotations| annotations.contains_key(CACHE_KEYS);
    let cache = index.filter(|index| index.annotations.as_ref().is_some_and(has_keys));
    let Some(index) = cache else {
        let into = Arc::new(PullInto::new(store, None));
        let pulled = client.pull(request, into, sink).await?;
        return Ok(pulled.into_iter().map(|one| one.image.id).collect());
    };
    let holder = Store::holder(Arc::clone(&store));
    let mut set = ImageSet {
        annotations: index.annotations.unwrap_or_default(),
        ..ImageSet::default()
    };
    for manifest in &index.manifests {
        let reference = request
            .reference
            .with_digest(&manifest.digest.to_string())?;
        let request = PullRequest {
            reference,
            platform: manifest.platform.clone(),
            ..request.clone()
        };
        let into = Arc::new(PullInto::new(Arc::clone(&store), Some(holder.number())));
        // The images are told of when all are there.
        let (quiet, _) = registry::channel();
        let pulled = client.pull(request, into, quiet).await?;
        let ids = pulled.into_iter().map(|one| Member::new(one.image.id));
        set.members.extend(ids);
    }
    let name = request.reference;
    let main = cais_engine::house::blocking(move || {
        let main = store.tag_set(&set, &name)?;
        drop(holder);
        Ok(main)
    });
    Ok(vec![main.await?])
}

fn transfer(
    events: registry::ProgressStream,
    result: impl Future<Output = Result<Vec<Digest>>> + Send + 'static,
) -> Transfer {
    let events = stream::unfold(events, |mut events| async {
        events.next().await.map(|event| (told(event), events))
    });
    Transfer {
        events: Box::pin(events),
        result: Box::pin(result),
    }
}

fn told(event: Event) -> TransferEvent {
    match event {
        Event::Message { id, status } => TransferEvent::Message { id, status },
        Event::Layer {
            id,
            step,
            current,
            total,
        } => TransferEvent::Layer {
            id,
            status: step.to_string(),
            bar: step.has_bar().then_some((current, total)),
        },
        Event::Pushed { tag, digest, size } => TransferEvent::Pushed { tag, digest, size },
    }
}

/// None for what clients without a login send.
fn credentials(auth: AuthConfig) -> Option<Credentials> {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let mut credentials = Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: some(auth.identity_token),
        registry_token: some(auth.registry_token),
    };
    if credentials.username.is_empty()
        && let Ok(decoded) = base64::engine::general_purpose::STANDARD.decode(&auth.auth)
        && let Some((name, password)) = String::from_utf8_lossy(&decoded).split_once(':')
    {
        credentials.username = name.to_owned();
        credentials.password = password.trim_end_matches('\0').to_owned();
    }
    (!credentials.is_empty()).then_some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_as_words_as_base64_or_not_at_all() {
        let auth = |username: &str, auth: &str| AuthConfig {
            username: username.to_owned(),
            auth: auth.to_owned(),
            ..AuthConfig::default()
        };
        assert_eq!(credentials(auth("", "")), None);
        let decoded = credentials(auth("", "bWU6YTpi")).unwrap();
        assert_eq!(decoded, Credentials::basic("me", "a:b"));
        let written = credentials(auth("you", "bWU6YTpi")).unwrap();
        assert_eq!(written, Credentials::basic("you", ""));
    }

    #[test]
    fn passwords_of_proxies_are_not_shown() {
        let proxies = Proxies {
            http: Some("http://me:secret@proxy:3128/".to_owned()),
            https: Some("proxy:3128".to_owned()),
            no_proxy: Some("a,b".to_owned()),
        };
        let shown = ["http://xxxxx:xxxxx@proxy:3128/", "proxy:3128", "a,b"];
        assert_eq!(shown_proxies(&proxies), shown);
    }

    #[test]
    fn info_tells_what_is_insecure_and_mirrored() {
        let config = ClientConfig {
            insecure_registries: vec!["10.0.0.0/8".to_owned(), "reg:5000".to_owned()],
            mirrors: vec!["https://m".to_owned()],
            ..ClientConfig::default()
        };
        let facts = facts(&config);
        assert_eq!(
            facts.insecure_registry_cidrs,
            ["::1/128", "127.0.0.0/8", "10.0.0.0/8"]
        );
        assert_eq!(facts.mirrors.unwrap(), ["https://m/"]);
        assert!(!facts.index_configs["reg:5000"].secure);
        let hub = &facts.index_configs["docker.io"];
        assert!(hub.secure && hub.official);
        assert_eq!(hub.mirrors, ["https://m/"]);
    }
}
