//! Which core the proxies get and which the load.

use std::fs;

use crate::scheduling;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    pub proxy: usize,
    /// The same as `proxy` on a machine with one core: the figures then hold both.
    pub load: usize,
}

impl Cores {
    /// The first allowed core for the proxies, and the first that is no hardware thread of it for the load.
    pub fn choose() -> anyhow::Result<Cores> {
        let allowed = scheduling::allowed_cores()?;
        Ok(choose_among(&allowed, |core| {
            let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
            fs::read_to_string(path).map_or_else(|_| vec![core], |text| list(&text))
        }))
    }
}

fn choose_among(allowed: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Cores {
    let proxy = allowed.first().copied().unwrap_or(0);
    let beside = siblings(proxy);
    let others = || allowed.iter().copied().filter(|core| *core != proxy);
    let load = others().find(|core| !beside.contains(core)).or_else(|| others().next()).unwrap_or(proxy);
    Cores { proxy, load }
}

/// `0-2,5`.
fn list(text: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse(), last.parse::<usize>()) {
            // No machine has more; a broken file must not make a list without end.
            cores.extend((first..=last).take(4096));
        }
    }
    cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let table: [(&str, &[usize]); 4] =
            [("0\n", &[0]), ("0-2,5\n", &[0, 1, 2, 5]), ("", &[]), ("x-3", &[])];
        for (text, cores) in table {
            assert_eq!(list(text), cores, "{text:?}");
        }
    }

    #[test]
    fn the_load_keeps_off_the_proxy_s_other_thread() {
        let pairs = |core: usize| vec![core & !1, core | 1];
        let alone = |core| vec![core];
        assert_eq!(choose_among(&[0, 1, 2, 3], pairs), Cores { proxy: 0, load: 2 });
        assert_eq!(choose_among(&[0, 1], pairs), Cores { proxy: 0, load: 1 });
        assert_eq!(choose_among(&[2, 5], alone), Cores { proxy: 2, load: 5 });
        assert_eq!(choose_among(&[3], alone), Cores { proxy: 3, load: 3 });
    }
}
