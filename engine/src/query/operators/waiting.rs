//! The items that wait before an operator of a query: in the order in which they came while they are
//! few, and in turns of their requests from then on. A request with much to do then keeps no other
//! waiting for longer than its turn.

use crate::request::item::Item;
use crate::request::live_requests::RequestId;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// The most items that wait in the order in which they came. More are sorted by their requests.
const IN_ORDER: usize = 1024;

/// The number of items of a request's turn.
const TURN: usize = 64;

/// See the module's documentation.
pub(super) struct Waiting<T> {
    /// The piece in hand.
    piece: std::vec::IntoIter<Item<T>>,
    in_order: VecDeque<std::vec::IntoIter<Item<T>>>,
    by_request: HashMap<RequestId, VecDeque<Item<T>>, foldhash::fast::RandomState>,
    /// The requests in `by_request`, in the order of their turns.
    turns: VecDeque<RequestId>,
    /// The number of items outside of the piece in hand.
    number: usize,
}

impl<T> Waiting<T> {
    pub(super) fn new() -> Waiting<T> {
        Waiting {
            piece: Vec::new().into_iter(),
            in_order: VecDeque::new(),
            by_request: HashMap::default(),
            turns: VecDeque::new(),
            number: 0,
        }
    }

    /// The number of items that wait.
    pub(super) fn len(&self) -> usize {
        self.number + self.piece.as_slice().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds items behind the others.
    pub(super) fn push(&mut self, items: std::vec::IntoIter<Item<T>>) {
        self.number += items.as_slice().len();
        if self.turns.is_empty() && self.number <= IN_ORDER {
            self.in_order.push_back(items);
        } else {
            self.sort();
            self.sort_in(items);
        }
    }

    /// Sorts what waits in order by its requests.
    fn sort(&mut self) {
        while let Some(items) = self.in_order.pop_front() {
            self.sort_in(items);
        }
    }

    fn sort_in(&mut self, items: std::vec::IntoIter<Item<T>>) {
        let mut items = items.peekable();
        while let Some(first) = items.peek() {
            // Items of a request mostly come together.
            let id = first.ticket.id;
            let of_request = self.by_request.entry(id).or_insert_with(|| {
                self.turns.push_back(id);
                VecDeque::new()
            });
            while let Some(item) = items.next_if(|item| item.ticket.id == id) {
                of_request.push_back(item);
            }
        }
    }

    /// Returns the piece in hand: what came first, or the next request's turn. `None` if nothing is
    /// left.
    pub(super) fn piece(&mut self) -> Option<&mut std::vec::IntoIter<Item<T>>> {
        if self.piece.as_slice().is_empty() {
            self.piece = self.next()?;
            self.number -= self.piece.as_slice().len();
        }
        Some(&mut self.piece)
    }

    fn next(&mut self) -> Option<std::vec::IntoIter<Item<T>>> {
        if let Some(items) = self.in_order.pop_front() {
            return Some(items);
        }
        self.turn()
    }

    /// The next items of the request whose turn it is, which then is the last in turn.
    fn turn(&mut self) -> Option<std::vec::IntoIter<Item<T>>> {
        let id = self.turns.pop_front()?;
        let of_request = self.by_request.get_mut(&id)?;
        let items: Vec<Item<T>> = of_request.drain(..TURN.min(of_request.len())).collect();
        if of_request.is_empty() {
            self.by_request.remove(&id);
        } else {
            self.turns.push_back(id);
        }
        Some(items.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::item::{Held, Ticket};
    use crate::request::live_requests::LiveRequests;
    use crate::request::weight::Weight;
    use tidemill_state::Txid;

    fn requests(number: usize) -> Vec<RequestId> {
        let live = LiveRequests::new(1, number);
        (0..number).map(|place| live.begin(0, place)).collect()
    }

    fn items(id: RequestId, number: usize) -> std::vec::IntoIter<Item<usize>> {
        let ticket = Ticket { id, at: Txid(1) };
        let item = |value| Item { ticket, weight: Weight::default(), held: Held::Value(value) };
        (0..number).map(item).collect::<Vec<_>>().into_iter()
    }

    /// Takes one piece whole. Returns whose it was, and how many items it had.
    fn take(waiting: &mut Waiting<usize>) -> Option<(RequestId, usize)> {
        let items: Vec<Item<usize>> = waiting.piece()?.collect();
        items.first().map(|first| (first.ticket.id, items.len()))
    }

    #[test]
    fn few_items_come_in_order() {
        let (mut waiting, ids) = (Waiting::new(), requests(2));
        waiting.push(items(ids[0], 500));
        waiting.push(items(ids[1], 2));
        waiting.push(items(ids[0], 500));
        assert_eq!(waiting.len(), 1002);
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut waiting)).collect();
        assert_eq!(taken, [(ids[0], 500), (ids[1], 2), (ids[0], 500)]);
        assert!(waiting.is_empty() && take(&mut waiting).is_none());
    }

    #[test]
    fn many_items_come_in_turns_of_their_requests_and_each_in_its_order() {
        let (mut waiting, ids) = (Waiting::new(), requests(3));
        waiting.push(items(ids[0], 100_000));
        waiting.push(items(ids[1], 100));
        assert_eq!(take(&mut waiting), Some((ids[0], TURN)));
        waiting.push(items(ids[2], 3));
        let next: Vec<_> = (0..4).map(|_| take(&mut waiting)).collect();
        let expected = [(ids[1], TURN), (ids[0], TURN), (ids[2], 3), (ids[1], 100 - TURN)];
        assert_eq!(next, expected.map(Some));
        // A piece in hand is finished first.
        let first = waiting.piece().and_then(Iterator::next).expect("there is more");
        assert!(matches!(first.held, Held::Value(128)), "in the order of the request: {first:?}");
        assert_eq!(waiting.len(), 100_000 - 2 * TURN - 1);
        let rest: usize = std::iter::from_fn(|| take(&mut waiting)).map(|(_, n)| n).sum();
        assert_eq!(rest, 100_000 - 2 * TURN - 1);
        assert!(waiting.is_empty() && waiting.by_request.is_empty() && waiting.turns.is_empty());
    }
}
