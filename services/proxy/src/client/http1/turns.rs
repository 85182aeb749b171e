//! How long a download may go on before others on its worker get their turn.

use std::{future::Future, pin::pin, task::Context};

/// Looks at a backend that had something each time. With small parts these are what takes the time.
const LOOKS: u32 = 16;

/// Bytes after which others get their turn: what takes the kernel a fraction of a millisecond, and so much
/// that another look for events hardly counts.
const BYTES: u64 = 1024 * 1024;

/// A turn of a download for which both sides are fast enough: it never has to wait.
pub(super) struct Turn {
    looks: u32,
    /// Bytes that had been written when it began.
    begun: u64,
}

impl Turn {
    pub(super) fn begin(written: u64) -> Self {
        Self { looks: 0, begun: written }
    }

    /// Whether that was it, now that so many bytes have been written. Others are served first then, also
    /// those of whom nothing is known yet: the task is woken after the next look for events. Who
    /// wakes itself is served again before that, some sixty times over.
    pub(super) fn is_over(&mut self, written: u64, context: &mut Context<'_>) -> bool {
        self.looks += 1;
        if self.looks < LOOKS && written - self.begun < BYTES {
            return false;
        }
        *self = Self::begin(written);
        pin!(tokio::task::yield_now()).poll(context).is_pending()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_turn_ends_with_its_bytes_or_its_looks_and_another_one_begins() {
        let mut context = Context::from_waker(Waker::noop());
        let mut turn = Turn::begin(10);
        for _ in 0..2 {
            assert_eq!((1..LOOKS).find(|_| turn.is_over(11, &mut context)), None);
            assert!(turn.is_over(11, &mut context), "that was the last look");
        }
        for written in [BYTES + 11, 3 * BYTES] {
            assert!(!turn.is_over(written - BYTES, &mut context));
            assert!(turn.is_over(written, &mut context));
        }
    }

    #[tokio::test]
    async fn the_next_turn_begins_only_after_a_look_for_events() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(Turn::begin(0).is_over(BYTES, &mut Context::from_waker(&waker)));
        assert!(!woken.0.load(Ordering::Relaxed), "it would be served again before anybody else");
        tokio::task::yield_now().await;
        assert!(woken.0.load(Ordering::Relaxed));
    }
}
