//! Tuples of aggregations: several results in one pass over the records. Trident's chained
//! aggregations.

use super::Reducer;
use crate::aggregates::Combiner;

macro_rules! tuples {
    ($(($($name:ident $at:tt),+))*) => {$(
        /// Each of them, of the same records. It has a zero if all of them have.
        impl<Rec, $($name: Combiner<Rec>),+> Combiner<Rec> for ($($name,)+) {
            type Value = ($($name::Value,)+);

            fn init(&self, record: &Rec) -> Self::Value {
                ($(self.$at.init(record),)+)
            }

            fn combine(&self, into: &mut Self::Value, other: Self::Value) {
                $(self.$at.combine(&mut into.$at, other.$at);)+
            }

            fn add(&self, into: &mut Self::Value, record: &Rec) {
                $(self.$at.add(&mut into.$at, record);)+
            }

            fn zero(&self) -> Option<Self::Value> {
                Some(($(self.$at.zero()?,)+))
            }
        }

        /// Each of them, of the same records.
        impl<Rec: Clone, $($name: Reducer<Rec>),+> Reducer<Rec> for ($($name,)+) {
            type Value = ($($name::Value,)+);

            fn init(&self) -> Self::Value {
                ($(self.$at.init(),)+)
            }

            fn reduce(&self, into: &mut Self::Value, record: Rec) {
                $(self.$at.reduce(&mut into.$at, record.clone());)+
            }
        }
    )*};
}
tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}

#[cfg(test)]
mod tests {
    use super::super::{Count, Max, Sum, fold};
    use super::*;

    #[test]
    fn a_tuple_gives_each_of_its_results() {
        let three = (Count, Sum, Max);
        let mut value = three.init(&3u64);
        three.add(&mut value, &9);
        three.combine(&mut value, three.init(&4));
        assert_eq!(value, (3, 16, 9));
        assert_eq!(<_ as Combiner<u64>>::zero(&three), None, "there is no greatest of none");
        assert_eq!(<_ as Combiner<u64>>::zero(&(Count, Sum)), Some((0, 0)));
        let two = (
            fold(|| 0, |sum: &mut u64, n: u64| *sum += n),
            fold(|| 0, |last: &mut u64, n| *last = n),
        );
        let mut value = two.init();
        [5, 6].into_iter().for_each(|n| two.reduce(&mut value, n));
        assert_eq!(value, (11, 6));
    }
}
