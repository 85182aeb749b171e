//! `evenkeel-dashboard --text` on a terminal of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod support;

use std::{
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use support::{FakeAdmin, PATIENCE, backend, pools};

/// What ends and begins a screen of its own, and hides the cursor meanwhile.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Where each picture begins and ends.
const HOME: &str = "\x1b[H";
const END: &str = "\x1b[J";

/// A terminal with the dashboard in it.
struct Terminal {
    child: Child,
    /// Where its size is set.
    own: OwnedFd,
    chunks: mpsc::Receiver<Vec<u8>>,
    /// All that was written, as a terminal gets it.
    written: String,
}

impl Terminal {
    fn start(admin: &FakeAdmin, variables: &[(&str, &str)], columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let own = openpt(flags).unwrap();
        grantpt(&own).unwrap();
        unlockpt(&own).unwrap();
        resize(&own, columns, rows);
        let inner = ioctl_tiocgptpeer(&own, flags).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_evenkeel-dashboard"))
            .env_clear()
            .envs(variables.iter().copied())
            .args(["--text", "--interval=50ms", "--load-balancer-admin-url", &admin.url()])
            .stdin(Stdio::null())
            .stdout(inner)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut reader = File::from(own.try_clone().unwrap());
        let (sender, chunks) = mpsc::channel();
        // Ends with the process: reading fails once nobody has the other side open.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, own, chunks, written: String::new() }
    }

    /// The first whole picture from now on that fits, without what colours it.
    fn until(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let pictures = self.written.split(HOME).skip(1);
            let found = pictures.filter_map(|rest| rest.split_once(END)).map(|(text, _)| text);
            if let Some(picture) = found.map(plain).find(|text| fits(text)) {
                self.written.clear();
                return picture;
            }
            self.hear();
        }
    }

    fn hear(&mut self) {
        match self.chunks.recv_timeout(PATIENCE) {
            Ok(chunk) => self.written.push_str(&String::from_utf8_lossy(&chunk)),
            Err(why) => panic!("{why}, after {:?}", self.written),
        }
    }

    /// What is written from a signal to the end, and the code.
    fn stop(mut self) -> (String, Option<i32>) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
        let code = self.child.wait().unwrap().code();
        while let Ok(chunk) = self.chunks.recv_timeout(Duration::from_secs(5)) {
            self.written.push_str(&String::from_utf8_lossy(&chunk));
            if self.written.contains(LEAVE) {
                break;
            }
        }
        (std::mem::take(&mut self.written), code)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(own: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(own, size).unwrap();
}

/// Without colours and the like, which go from an escape to a letter, and without what the terminal
/// makes of the end of a line.
fn plain(text: &str) -> String {
    let text = text.replace("\r\r\n", "\r\n");
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once(|it: char| it.is_ascii_alphabetic()));
    rest.fold(first, |all, part| all + part.map_or("", |(_, text)| text))
}

#[test]
fn a_terminal_shows_the_table_live_in_the_room_there_is_and_gets_its_screen_back() {
    let ids = ["a:1", "b:1", "c:1", "d:1"].map(backend);
    let admin = FakeAdmin::start(pools(&ids));
    let mut terminal = Terminal::start(&admin, &[], 120, 24);
    while !terminal.written.contains(END) {
        terminal.hear();
    }
    assert!(terminal.written.starts_with(ENTER), "{:?}", terminal.written);
    let table = terminal.until(|text| text.contains("d:1"));
    let lines: Vec<&str> = table.split("\r\n").collect();
    assert!(lines[0].contains("All 4 backends serve"), "{table}");
    assert!(lines.iter().any(|line| line.contains("WHY")), "{table}");
    assert!(lines.iter().all(|line| line.chars().count() <= 120), "{table}");

    // What changes is seen, and the worst stands first.
    admin.with(|world| {
        let changed = &mut world.pools["pools"][0]["backends"][2];
        (changed["effective"], changed["health"]) = ("down".into(), "down".into());
    });
    let table = terminal.until(|text| text.contains("3 of 4 serve"));
    let row = |id: &str| table.find(id).unwrap_or(usize::MAX);
    let rows = &table[table.find("BACKEND").unwrap()..];
    assert!(rows.find("c:1") < rows.find("a:1") && row("c:1") < usize::MAX, "{table}");

    // A smaller window is filled anew, with fewer columns, and says what it leaves out.
    resize(&terminal.own, 40, 6);
    let table = terminal.until(|text| text.contains("more"));
    let lines: Vec<&str> = table.split("\r\n").collect();
    assert!(lines.len() <= 6 && lines.iter().all(|line| line.chars().count() <= 40), "{table}");
    assert!(table.contains("c:1") && table.contains("… and 3 more"), "{table}");

    let (rest, code) = terminal.stop();
    assert!(rest.ends_with(LEAVE), "{rest:?}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_terminal_has_colours_for_what_is_wrong_unless_they_are_not_wanted() {
    let mut down = backend("a:1");
    (down["effective"], down["health"]) = ("down".into(), "down".into());
    let admin = FakeAdmin::start(pools(&[down, backend("b:1")]));
    for (variables, red) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let mut terminal = Terminal::start(&admin, variables, 120, 24);
        while !terminal.written.contains("b:1") {
            terminal.hear();
        }
        assert_eq!(terminal.written.contains("\x1b[31m"), red, "{:?}", terminal.written);
        terminal.stop();
    }
}
