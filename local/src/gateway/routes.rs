//! Which route a request takes: the path templates of an HTTP API.

use std::collections::{BTreeMap, HashMap};

use percent_encoding::percent_decode_str;

use super::Route;

/// The routes by method. Where several match a path, API Gateway takes the most literal one, and one that ends
/// with `{name+}` only where no other matches.
pub(super) struct Routes(HashMap<&'static str, OfMethod>);

/// The routes of one method, those that end with `{name+}` apart.
#[derive(Default)]
struct OfMethod {
    full: matchit::Router<Route>,
    greedy: matchit::Router<Route>,
}

impl Routes {
    pub(super) fn new(routes: Vec<Route>) -> Result<Self, matchit::InsertError> {
        let mut by_method: HashMap<_, OfMethod> = HashMap::new();
        for route in routes {
            let of_method = by_method.entry(route.method).or_default();
            match route.path.strip_suffix("+}").and_then(|path| path.rsplit_once('{')) {
                Some((start, name)) => {
                    of_method.greedy.insert(format!("{start}{{*{name}}}"), route)?;
                }
                None => of_method.full.insert(route.path, route)?,
            }
        }
        Ok(Self(by_method))
    }

    /// The route of a request and its path parameters, percent-decoded.
    pub(super) fn find(
        &self,
        method: &str,
        path: &str,
    ) -> Option<(&Route, BTreeMap<String, String>)> {
        let of_method = self.0.get(method)?;
        let found = find(&of_method.full, path).or_else(|| find(&of_method.greedy, path))?;
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let parameters = found.params.iter();
        let parameters = parameters.map(|(name, value)| (name.to_owned(), decoded(value)));
        Some((found.value, parameters.collect()))
    }
}

/// The route that matches with a value for each parameter.
fn find<'r, 'p>(
    routes: &'r matchit::Router<Route>,
    path: &'p str,
) -> Option<matchit::Match<'r, 'p, &'r Route>> {
    let found = routes.at(path).ok()?;
    let has_values = found.params.iter().all(|(_, value)| !value.is_empty());
    has_values.then_some(found)
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
            ("GET", "/api/hooks"),
            ("GET", "/api/hooks/{id}"),
            ("POST", "/api/hooks/{id}/do"),
            ("GET", "/api/{rest+}"),
            ("POST", "/api/{rest+}"),
            ("PUT", "/api/{rest+}"),
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
    fn rest_of_a_path_is_taken_only_where_no_other_route_matches() {
        assert_taken("GET", "/api/hooks", Some(("/api/hooks", &[])));
        assert_taken("GET", "/api/hooks/x", Some(("/api/hooks/{id}", &["x"])));
        assert_taken("POST", "/api/hooks/x/do", Some(("/api/hooks/{id}/do", &["x"])));
        for (method, rest) in [
            ("GET", "h"),
            ("GET", "hooks/"),
            ("GET", "hooks/x/"),
            ("GET", "hooks/x/do"),
            ("GET", "hooks/x/do/y"),
            ("POST", "hooks"),
            ("POST", "hooks/x"),
            ("POST", "hooks//do"),
            ("POST", "hooks/x/d"),
            ("PUT", "hooks/x/do"),
            ("PUT", "hookshop"),
        ] {
            assert_taken(method, &format!("/api/{rest}"), Some(("/api/{rest+}", &[rest])));
        }
        assert_taken("GET", "/api", None);
        assert_taken("GET", "/api/", None);
        assert_taken("DELETE", "/api/hooks", None);
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
