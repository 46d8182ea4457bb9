//! Which route a request takes: the path templates of an HTTP API.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// The method and the path of a route.
pub(super) trait Template {
    fn method(&self) -> &str;
    fn path(&self) -> &str;
}

/// Picks the route, and its path parameters. Where several match, the one with the fewest
/// parameters wins, as in API Gateway.
pub(super) fn route<'a, T: Template>(
    routes: &'a [T],
    method: &str,
    path: &str,
) -> Option<(&'a T, BTreeMap<String, String>)> {
    let of_method = routes.iter().filter(|route| route.method() == method);
    of_method
        .filter_map(|route| Some((route, parameters(route.path(), path)?)))
        .min_by_key(|(_, parameters)| parameters.len())
}

/// The parameters with which `template` becomes `path`, percent-decoded, if it can.
fn parameters(template: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    let mut given = path.split('/');
    for expected in template.split('/') {
        let segment = given.next()?;
        let name = expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match name {
            None if segment != expected => return None,
            Some(_) if segment.is_empty() => return None,
            None => {}
            Some(name) => {
                let value = percent_decode_str(segment).decode_utf8_lossy().into_owned();
                parameters.insert(name.to_owned(), value);
            }
        }
    }
    given.next().is_none().then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Template for (&str, &str) {
        fn method(&self) -> &str {
            self.0
        }

        fn path(&self) -> &str {
            self.1
        }
    }

    const ROUTES: [(&str, &str); 4] = [
        ("GET", "/hooks/{id}"),
        ("GET", "/hooks/types"),
        ("DELETE", "/hooks/{id}"),
        ("POST", "/hooks/{id}/do/{what}"),
    ];

    fn taken(method: &str, path: &str) -> Option<(usize, Vec<String>)> {
        let (route, parameters) = route(&ROUTES, method, path)?;
        let index = ROUTES.iter().position(|other| other == route).unwrap();
        Some((index, parameters.into_values().collect()))
    }

    #[test]
    fn the_most_literal_route_wins() {
        assert_eq!(taken("GET", "/hooks/types"), Some((1, vec![])));
        assert_eq!(taken("GET", "/hooks/x"), Some((0, vec!["x".to_owned()])));
        assert_eq!(taken("DELETE", "/hooks/types"), Some((2, vec!["types".to_owned()])));
    }

    #[test]
    fn parameters_are_decoded_and_stay_one_segment() {
        let expected = (3, vec!["a/b é".to_owned(), "%2".to_owned()]);
        assert_eq!(taken("POST", "/hooks/a%2Fb%20%C3%A9/do/%2"), Some(expected));
    }

    #[test]
    fn an_unknown_method_or_path_has_no_route() {
        assert_eq!(taken("PUT", "/hooks/x"), None);
        assert_eq!(taken("get", "/hooks/x/do/y"), None);
        for path in ["/", "/hooks", "/hooks/", "/hooks/x/", "//x", "/hooks//do/x", "/hooks/x/do"] {
            assert_eq!(taken("GET", path), None, "{path}");
        }
    }
}
