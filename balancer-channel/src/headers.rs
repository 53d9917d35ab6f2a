//! Headers of an RPC are few.

use http::{HeaderMap, HeaderName, HeaderValue};

/// In a map with no more, a walk costs less than the hash of the name.
const FEW: usize = 8;

/// As [`HeaderMap::get`]: the first value of that name.
#[inline]
pub(crate) fn find<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    if headers.len() > FEW {
        return headers.get(name);
    }
    let mut all = headers.iter();
    all.find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    //! Against the map's own look-up.

    use http::header::{ACCEPT, CONTENT_TYPE, TE};

    use super::*;

    #[test]
    fn it_finds_what_the_map_finds() {
        let mut headers = HeaderMap::new();
        for size in 0..2 * FEW {
            for name in [ACCEPT, CONTENT_TYPE, TE, HeaderName::from_static("x-3")] {
                assert_eq!(find(&headers, &name), headers.get(&name), "{size} headers");
            }
            let name = match size {
                1 | 4 => CONTENT_TYPE,
                _ => HeaderName::try_from(format!("x-{size}")).expect("a name"),
            };
            headers.append(name, HeaderValue::from(size));
        }
        assert_eq!(find(&headers, &CONTENT_TYPE), Some(&HeaderValue::from(1)));
    }
}
