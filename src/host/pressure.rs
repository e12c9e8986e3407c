//! How busy the processors of this machine are.

/// The share of the last ten seconds, in percent, in which some process that could run waited for a processor. `None`
/// if the kernel does not tell (`/proc/pressure/cpu`).
pub fn processor_pressure() -> Option<f64> {
    parse(&std::fs::read_to_string("/proc/pressure/cpu").ok()?)
}

fn parse(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_ten_seconds_is_read() {
        let text = "some avg10=34.60 avg60=42.94 avg300=40.67 total=4684773402\nfull avg10=0.00 avg60=0.00\n";
        assert_eq!(parse(text), Some(34.6));
        assert_eq!(parse("nothing"), None);
    }
}
