//! The same types for unit tests: shuttle's within [`scheduled`], the standard library's elsewhere.
//!
//! Shuttle has no time: a wait that only its time-out ends is a deadlock, and fails the test. Its
//! atomics are sequentially consistent, as all of those here are.

use shuttle::sync::atomic as model;
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic as real;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

thread_local! {
    /// True while shuttle runs this thread. Its tasks all are on one thread of the system.
    static SCHEDULED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `body`, in which the types of this module are shuttle's.
pub(crate) fn scheduled<R>(body: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            SCHEDULED.set(self.0);
        }
    }
    let _back = Back(SCHEDULED.replace(true));
    body()
}

/// Converts the guard within the result of a lock.
fn convert<G, H>(locked: LockResult<G>, convert: impl Fn(G) -> H) -> LockResult<H> {
    match locked {
        Ok(guard) => Ok(convert(guard)),
        Err(poisoned) => Err(PoisonError::new(convert(poisoned.into_inner()))),
    }
}

/// A mutex.
pub(crate) enum Mutex<T> {
    Real(std::sync::Mutex<T>),
    Model(shuttle::sync::Mutex<T>),
}

/// The guard of a [`Mutex`].
pub(crate) enum MutexGuard<'a, T> {
    Real(std::sync::MutexGuard<'a, T>),
    Model(shuttle::sync::MutexGuard<'a, T>),
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        if SCHEDULED.get() {
            Mutex::Model(shuttle::sync::Mutex::new(value))
        } else {
            Mutex::Real(std::sync::Mutex::new(value))
        }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self {
            Mutex::Real(mutex) => convert(mutex.lock(), MutexGuard::Real),
            Mutex::Model(mutex) => convert(mutex.lock(), MutexGuard::Model),
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            MutexGuard::Real(guard) => guard,
            MutexGuard::Model(guard) => guard,
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match self {
            MutexGuard::Real(guard) => guard,
            MutexGuard::Model(guard) => guard,
        }
    }
}

/// A condition variable.
pub(crate) enum Condvar {
    Real(std::sync::Condvar),
    Model(shuttle::sync::Condvar),
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        if SCHEDULED.get() {
            Condvar::Model(shuttle::sync::Condvar::new())
        } else {
            Condvar::Real(std::sync::Condvar::new())
        }
    }

    /// Waits while the condition holds. Under shuttle, however long that is.
    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        longest: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        match (self, guard) {
            (Condvar::Real(changed), MutexGuard::Real(guard)) => {
                convert(changed.wait_timeout_while(guard, longest, condition), |(guard, _)| {
                    MutexGuard::Real(guard)
                })
            }
            (Condvar::Model(changed), MutexGuard::Model(guard)) => {
                convert(changed.wait_while(guard, condition), MutexGuard::Model)
            }
            _ => panic!("a lock and its condition variable are of one kind"),
        }
    }

    pub(crate) fn notify_all(&self) {
        match self {
            Condvar::Real(changed) => changed.notify_all(),
            Condvar::Model(changed) => changed.notify_all(),
        }
    }
}

macro_rules! atomic {
    ($name:ident, $number:ty, [$($method:ident),*]) => {
        /// A number.
        pub(crate) enum $name {
            Real(real::$name),
            Model(model::$name),
        }

        impl $name {
            pub(crate) fn new(number: $number) -> $name {
                if SCHEDULED.get() {
                    $name::Model(model::$name::new(number))
                } else {
                    $name::Real(real::$name::new(number))
                }
            }

            pub(crate) fn load(&self, order: real::Ordering) -> $number {
                match self {
                    $name::Real(atomic) => atomic.load(order),
                    $name::Model(atomic) => atomic.load(order),
                }
            }

            $(pub(crate) fn $method(&self, number: $number, order: real::Ordering) -> $number {
                match self {
                    $name::Real(atomic) => atomic.$method(number, order),
                    $name::Model(atomic) => atomic.$method(number, order),
                }
            })*
        }
    };
}

atomic!(AtomicU64, u64, [fetch_add]);
atomic!(AtomicUsize, usize, [swap]);

impl Default for AtomicU64 {
    fn default() -> AtomicU64 {
        AtomicU64::new(0)
    }
}

impl AtomicU64 {
    pub(crate) fn store(&self, number: u64, order: real::Ordering) {
        match self {
            AtomicU64::Real(atomic) => atomic.store(number, order),
            AtomicU64::Model(atomic) => atomic.store(number, order),
        }
    }
}

/// A handle of a thread.
pub(crate) enum ThreadHandle {
    Real(std::thread::Thread),
    Model(shuttle::thread::Thread),
}

/// The id of a thread.
#[derive(PartialEq, Eq)]
pub(crate) enum ThreadId {
    Real(std::thread::ThreadId),
    Model(shuttle::thread::ThreadId),
}

/// Returns the handle of this thread.
pub(crate) fn current() -> ThreadHandle {
    if SCHEDULED.get() {
        ThreadHandle::Model(shuttle::thread::current())
    } else {
        ThreadHandle::Real(std::thread::current())
    }
}

impl ThreadHandle {
    pub(crate) fn id(&self) -> ThreadId {
        match self {
            ThreadHandle::Real(thread) => ThreadId::Real(thread.id()),
            ThreadHandle::Model(thread) => ThreadId::Model(thread.id()),
        }
    }

    pub(crate) fn unpark(&self) {
        match self {
            ThreadHandle::Real(thread) => thread.unpark(),
            ThreadHandle::Model(thread) => thread.unpark(),
        }
    }
}
