//! Routes and how a path finds one.

use cais_types::Result;
use futures_core::future::BoxFuture;
use http::Method;

use crate::reply::Reply;
use crate::request::Call;

/// A handler of one route.
pub type Handler = fn(Call) -> BoxFuture<'static, Result<Reply>>;

/// A method and a path with placeholders; a placeholder takes slashes, because names of images have them.
pub struct Route {
    pub method: Method,
    pub pattern: &'static str,
    pub handler: Handler,
}

/// Writes one row of a route table.
macro_rules! route {
    ($method:ident $pattern:literal => $handler:expr) => {
        $crate::route::Route {
            method: http::Method::$method,
            pattern: $pattern,
            handler: |call| Box::pin($handler(call)),
        }
    };
}
pub(crate) use route;

/// What the placeholders of a pattern stand for in a path, or `None` when the path is another one.
pub fn match_path(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut params = Vec::new();
    let (mut pattern, mut path) = (pattern, path);
    while let Some((literal, rest)) = pattern.split_once('{') {
        path = path.strip_prefix(literal)?;
        let (_, after) = rest.split_once('}')?;
        let end = match after.split_once('{') {
            None if after.is_empty() => path.len(),
            None => path
                .len()
                .checked_sub(after.len())
                .filter(|_| path.ends_with(after))?,
            Some((next, _)) => path.find(next)?,
        };
        if end == 0 {
            return None;
        }
        params.push(path[..end].to_owned());
        (pattern, path) = (after, &path[end..]);
    }
    (pattern == path).then_some(params)
}

#[cfg(test)]
mod tests {
    use super::match_path;

    #[test]
    fn placeholders_take_slashes_but_never_nothing() {
        let params = |pattern, path| match_path(pattern, path);
        assert_eq!(params("/info", "/info"), Some(vec![]));
        assert_eq!(params("/info", "/infos"), None);
        let name = Some(vec!["a.io/b/c:1".to_owned()]);
        assert_eq!(
            params("/images/{name}/json", "/images/a.io/b/c:1/json"),
            name
        );
        assert_eq!(params("/images/{name}", "/images/a.io/b/c:1"), name);
        assert_eq!(params("/images/{name}/json", "/images//json"), None);
        assert_eq!(params("/images/{name}/json", "/images/json"), None);
        let two = Some(vec!["c".to_owned(), "d".to_owned()]);
        assert_eq!(params("/x/{a}/y/{b}", "/x/c/y/d"), two);
    }
}
