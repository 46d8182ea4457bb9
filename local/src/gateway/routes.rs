//! Which route a request takes: the path templates of an HTTP API.

use std::collections::{BTreeMap, HashMap};

use percent_encoding::percent_decode_str;

use super::Route;

/// The routes by method. Where several match a path, the most literal one wins, as in API Gateway.
pub(super) struct Routes(HashMap<&'static str, matchit::Router<Route>>);

impl Routes {
    pub(super) fn new(routes: Vec<Route>) -> Result<Self, matchit::InsertError> {
        let mut by_method: HashMap<_, matchit::Router<Route>> = HashMap::new();
        for route in routes {
            let path = match route.path.strip_suffix("+}").and_then(|path| path.rsplit_once('{')) {
                Some((start, name)) => format!("{start}{{*{name}}}"),
                None => route.path.to_owned(),
            };
            by_method.entry(route.method).or_default().insert(path, route)?;
        }
        Ok(Self(by_method))
    }

    /// The route of a request and its path parameters, percent-decoded.
    pub(super) fn find(
        &self,
        method: &str,
        path: &str,
    ) -> Option<(&Route, BTreeMap<String, String>)> {
        let found = self.0.get(method)?.at(path).ok()?;
        if found.params.iter().any(|(_, value)| value.is_empty()) {
            return None;
        }
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let parameters = found.params.iter();
        let parameters = parameters.map(|(name, value)| (name.to_owned(), decoded(value)));
        Some((found.value, parameters.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    fn routes() -> Routes {
        let handler: super::super::Handler = Arc::new(|_| Box::pin(async { panic!("not called") }));
        let route =
            |(method, path)| Route { method, path, is_public: false, handler: handler.clone() };
        let routes = [
            ("GET", "/hooks/{id}"),
            ("GET", "/hooks/types"),
            ("DELETE", "/hooks/{id}"),
            ("POST", "/hooks/{id}/do/{what}"),
            ("GET", "/files"),
            ("GET", "/files/{path+}"),
        ];
        Routes::new(routes.map(route).into()).unwrap()
    }

    #[track_caller]
    fn assert_taken(method: &str, path: &str, expected: Option<(&str, &[&str])>) {
        let routes = routes();
        let found = routes.find(method, path);
        let found = found.map(|(route, parameters)| (route.path, Vec::from_iter(parameters)));
        let found = found.map(|(path, all)| (path, all.into_iter().map(|(_, v)| v).collect()));
        let expected =
            expected.map(|(path, all)| (path, all.iter().map(|v| (*v).into()).collect()));
        assert_eq!(found, expected as Option<(_, Vec<String>)>, "{method} {path}");
    }

    #[test]
    fn most_literal_route_wins() {
        assert_taken("GET", "/hooks/types", Some(("/hooks/types", &[])));
        assert_taken("GET", "/hooks/x", Some(("/hooks/{id}", &["x"])));
        assert_taken("DELETE", "/hooks/types", Some(("/hooks/{id}", &["types"])));
    }

    #[test]
    fn rest_of_a_path_is_one_parameter() {
        assert_taken("GET", "/files", Some(("/files", &[])));
        assert_taken("GET", "/files/a/b.js", Some(("/files/{path+}", &["a/b.js"])));
        assert_taken("GET", "/files/", None);
    }

    #[test]
    fn encoded_parameters_are_decoded() {
        let expected = ("/hooks/{id}/do/{what}", &["a/b é", "%2"][..]);
        assert_taken("POST", "/hooks/a%2Fb%20%C3%A9/do/%2", Some(expected));
    }

    #[test]
    fn unknown_method_or_path_has_no_route() {
        assert_taken("PUT", "/hooks/x", None);
        assert_taken("get", "/hooks/x/do/y", None);
        for path in ["/", "/hooks", "/hooks/", "/hooks/x/", "//x", "/hooks//do/x", "/hooks/x/do"] {
            for method in ["GET", "POST"] {
                assert_taken(method, path, None);
            }
        }
    }
}
