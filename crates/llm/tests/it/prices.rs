//! What calls cost, to the billionth of a dollar.

use domain::{Usage, Usd};
use llm::Price;

fn price(input: f64, output: f64, cached: Option<f64>, write: Option<f64>) -> Price {
    Price {
        input: Usd::from_dollars(input),
        output: Usd::from_dollars(output),
        cached_input: cached.map(Usd::from_dollars),
        cache_write: write.map(Usd::from_dollars),
    }
}

fn usage(input: u64, output: u64, cached: u64, written: u64) -> Usage {
    Usage { cached_input_tokens: cached, cache_write_tokens: written, ..Usage::tokens(input, output) }
}

#[test]
fn costs_are_exact() {
    let full = price(3.0, 15.0, Some(0.3), Some(3.75));
    let plain = price(0.25, 2.0, None, None);
    for (price, usage, nanos) in [
        (full, usage(0, 0, 0, 0), 0),
        (full, usage(1_000_000, 0, 0, 0), 3_000_000_000),
        (full, usage(0, 1_000_000, 0, 0), 15_000_000_000),
        (full, usage(1_000, 100, 0, 0), 3_000_000 + 1_500_000),
        (full, usage(1_000, 100, 600, 0), 400 * 3_000 + 600 * 300 + 1_500_000),
        (full, usage(1_000, 100, 600, 300), 100 * 3_000 + 600 * 300 + 300 * 3_750 + 1_500_000),
        (plain, usage(1_000, 100, 600, 300), 250_000 + 200_000),
        // A thousandth of a cent per million: a token is a hundredth of a billionth, and is rounded up.
        (price(0.000_01, 0.0, None, None), usage(1, 0, 0, 0), 1),
        (price(0.000_01, 0.0, None, None), usage(101, 0, 0, 0), 2),
        // More cached than read is what providers with a defect say.
        (full, usage(100, 0, 900, 0), 100 * 300),
        (full, usage(100, 0, 60, 900), 60 * 300 + 40 * 3_750),
        (Price::FREE, usage(u64::MAX, u64::MAX, 5, 5), 0),
        (full, usage(u64::MAX, u64::MAX, 0, 0), u64::MAX),
    ] {
        assert_eq!(price.cost(&usage), Usd(nanos), "{price:?} {usage:?}");
    }
}

#[test]
fn the_most_is_never_less_than_what_it_turns_out_to_be() {
    for price in [
        price(3.0, 15.0, Some(0.3), Some(3.75)),
        price(3.0, 15.0, None, None),
        price(1.0, 2.0, Some(5.0), None),
        price(0.000_01, 0.000_02, None, Some(0.9)),
    ] {
        for cached in [0, 1, 400, 1_000] {
            for written in [0, 1, 600, 1_000] {
                let cost = price.cost(&usage(1_000, 77, cached, written));
                assert!(cost <= price.most(1_000, 77), "{price:?} {cached} {written}");
            }
        }
    }
}

#[test]
fn the_dearer_of_two_prices_costs_no_less_than_either() {
    let prices = [
        price(3.0, 15.0, Some(0.3), Some(3.75)),
        price(2.0, 20.0, None, None),
        price(4.0, 1.0, Some(4.0), Some(1.0)),
        Price::FREE,
    ];
    for one in prices {
        for other in prices {
            let dearer = one.dearer(other);
            assert_eq!(dearer, other.dearer(one));
            for usage in [usage(1_000, 10, 0, 0), usage(1_000, 10, 1_000, 0), usage(1_000, 10, 0, 1_000)] {
                assert!(dearer.cost(&usage) >= one.cost(&usage).max(other.cost(&usage)), "{one:?} {other:?}");
            }
        }
    }
}
