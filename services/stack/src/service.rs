//! A service in this process: a thread, a way to stop it, and a way to make it vanish.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
};

use chassis::shutdown::{self, Shutdown, Stop, Trigger};
use tokio::sync::oneshot;

/// A service that is running.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    trigger: Trigger,
    kill: Option<oneshot::Sender<()>>,
    thread: JoinHandle<io::Result<()>>,
}

impl Service {
    /// Starts a service that brings its own runtimes.
    pub(crate) fn start(
        name: &str,
        address: SocketAddr,
        run: impl FnOnce(Shutdown) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (trigger, shutdown) = shutdown::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(shutdown))?;
        Ok(Self { address, trigger, kill: None, thread })
    }

    /// Starts a service on a runtime of its own, so that it can be killed without the others.
    pub(crate) fn start_async<F: Future<Output = io::Result<()>>>(
        name: &str,
        listener: TcpListener,
        run: impl FnOnce(TcpListener, Shutdown) -> F + Send + 'static,
    ) -> io::Result<Self> {
        let address = super::local_address(&listener)?;
        let (kill, killed) = oneshot::channel();
        let mut service = Self::start(name, address, move |shutdown| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(async {
                tokio::select! {
                    result = run(listener, shutdown) => result,
                    Ok(()) = killed => Ok(()),
                }
            });
            // Drops every connection in the middle of whatever it is doing.
            runtime.shutdown_background();
            result
        })?;
        service.kill = Some(kill);
        Ok(service)
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks for a stop without waiting for it.
    pub fn ask_to_stop(&self, stop: Stop) {
        self.trigger.stop(stop);
    }

    /// Asks for a stop and waits until it is done.
    ///
    /// # Errors
    /// What the service ended with.
    pub fn stop(self, stop: Stop) -> io::Result<()> {
        self.ask_to_stop(stop);
        self.join()
    }

    /// Ends it in the middle of whatever it is doing, as a crash would.
    ///
    /// # Errors
    /// What the service ended with.
    pub fn kill(mut self) -> io::Result<()> {
        if let Some(kill) = self.kill.take() {
            // Fails only if it has ended already.
            let _ = kill.send(());
        }
        self.join()
    }

    fn join(self) -> io::Result<()> {
        self.thread.join().map_err(|_| io::Error::other("a service ended by a panic"))?
    }
}
