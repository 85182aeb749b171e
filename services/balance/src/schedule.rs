//! The order of a weighted round robin, laid out once per published snapshot.
//!
//! The schedule is a list of `sum(weights)` entries that workers walk with one shared counter. Any
//! window of that length then gives each backend exactly its weight, whichever threads the picks
//! came from; a per-worker or per-pick computed order cannot promise that (envoyproxy/envoy#2593
//! is what users see instead). Entries of a backend are spread evenly rather than in a burst: its
//! k-th of w turns stands at (k + 1/2) / w of the way.

/// Member indexes in turn. Members of weight 0 do not appear.
pub(crate) fn schedule(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut turns = Vec::new();
    for (index, weight) in (0_u32..).zip(weights) {
        let weight = u64::from(weight / divisor);
        turns.extend((0..weight).map(|turn| {
            // The place as a fixed-point fraction; ties go to the lower index.
            let place = ((2 * turn + 1) << 32) / (2 * weight);
            (place, index)
        }));
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, index)| index).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_of_the_length_gives_each_member_its_weight() {
        for weights in [vec![1, 1, 1], vec![5, 3, 1], vec![256, 1], vec![0, 2], vec![7]] {
            let order = schedule(&weights);
            let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
            for start in 0..order.len() {
                for (index, weight) in (0_u32..).zip(&weights) {
                    let window = order.iter().cycle().skip(start).take(order.len());
                    let count = window.filter(|entry| **entry == index).count();
                    assert_eq!(count, (weight / divisor) as usize, "{weights:?} from {start}");
                }
            }
        }
    }

    #[test]
    fn turns_are_spread_rather_than_in_a_burst() {
        assert_eq!(schedule(&[2, 1]), [0, 1, 0]);
        let longest_run = schedule(&[5, 3, 1]).chunk_by(|a, b| a == b).map(<[u32]>::len).max();
        assert!(longest_run <= Some(2));
    }

    #[test]
    fn equal_weights_take_one_turn_each_whatever_they_are() {
        assert_eq!(schedule(&[100, 100, 100]), [0, 1, 2]);
    }

    #[test]
    fn nobody_takes_a_turn_where_all_weights_are_zero() {
        assert!(schedule(&[0, 0]).is_empty());
        assert!(schedule(&[]).is_empty());
    }
}
