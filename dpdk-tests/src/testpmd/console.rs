//! What testpmd's interactive console says: the one place that reads its text.
//!
//! Only the prompt, which says that a command has been carried out, and refusals are taken from it. Every figure comes from
//! [`super::telemetry`].

/// testpmd's prompt.
const PROMPT: &[u8] = b"testpmd> ";
/// How much is kept: plenty for any start-up, and a bound on a program gone mad.
const KEPT: usize = 256 * 1024;
/// What DPDK's command line library says to a line that it does not take.
const REFUSALS: [&str; 3] = ["Command not found", "Bad arguments", "Ambiguous command"];

/// The output so far.
#[derive(Debug, Default)]
pub struct Console {
    text: Vec<u8>,
    /// How many bytes were dropped before `text`.
    dropped: usize,
    prompts: usize,
    ended: bool,
}

/// A place in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    position: usize,
    prompts: usize,
}

impl Console {
    /// Takes in more output.
    pub fn push(&mut self, bytes: &[u8]) {
        // A prompt may come in two pieces.
        let seen = self.text.len().saturating_sub(PROMPT.len() - 1);
        self.text.extend_from_slice(bytes);
        let fresh = self.text.get(seen..).unwrap_or_default();
        self.prompts += fresh.windows(PROMPT.len()).filter(|window| *window == PROMPT).count();
        if self.text.len() > 2 * KEPT {
            let surplus = self.text.len() - KEPT;
            self.text.drain(..surplus);
            self.dropped += surplus;
        }
    }

    /// No more will come: the program closed its output.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the program closed its output.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Here.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { position: self.dropped + self.text.len(), prompts: self.prompts }
    }

    /// Whether testpmd waits for a first command.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.prompts > 0
    }

    /// What was said to the command given at `mark`; `None` while it is being carried out.
    #[must_use]
    pub fn reply(&self, mark: Mark) -> Option<String> {
        if self.prompts <= mark.prompts {
            return None;
        }
        let start = mark.position.saturating_sub(self.dropped);
        let text = String::from_utf8_lossy(self.text.get(start..).unwrap_or_default()).replace('\r', "");
        Some(text.replace("testpmd> ", ""))
    }

    /// The last lines that say something.
    #[must_use]
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.text);
        let mut last: Vec<String> = text
            .lines()
            .rev()
            .map(|line| line.trim_end().to_owned())
            .filter(|line| !line.is_empty() && line != "testpmd>")
            .take(lines)
            .collect();
        last.reverse();
        last
    }

    /// Everything that is kept.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Why a reply is a refusal, if it is one.
#[must_use]
pub fn refusal(reply: &str) -> Option<&'static str> {
    REFUSALS.into_iter().find(|refusal| reply.lines().any(|line| line.trim() == *refusal))
}

/// Why a queue's rate could not be set, from the reply to `set port P queue Q rate R`.
#[must_use]
pub fn refused_rate(reply: &str) -> Option<String> {
    let telling = |line: &&str| {
        line.contains("failed diag=") || line.contains("Invalid rate") || REFUSALS.contains(&line.trim())
    };
    let line = reply.lines().find(telling)?.trim();
    // ENOTSUP, as the kernel numbers it.
    Some(if line.contains("diag=-95") {
        "its driver in DPDK has no rate limit".to_owned()
    } else {
        line.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As DPDK 24.11 writes it with pipes for standard input and output.
    const START: &str = "EAL: Detected CPU lcores: 2\nEAL: VFIO support initialized\n\
        testpmd: create a new mbuf pool <mb_pool_0>: n=4096, size=2176, socket=0\ntestpmd> ";

    #[test]
    fn the_prompt_says_that_testpmd_is_ready_even_in_pieces() {
        let mut console = Console::default();
        for byte in START.as_bytes() {
            assert!(!console.is_ready());
            console.push(&[*byte]);
        }
        assert!(console.is_ready());
        assert_eq!(console.prompts, 1);
    }

    #[test]
    fn a_command_is_done_at_the_next_prompt() {
        let mut console = Console::default();
        console.push(START.as_bytes());
        let mark = console.mark();
        assert_eq!(console.reply(mark), None);
        console.push(b"set fwd foo\r\nBad argu");
        assert_eq!(console.reply(mark), None);
        console.push(b"ments\r\ntestpmd> ");
        let reply = console.reply(mark).unwrap();
        assert_eq!(refusal(&reply), Some("Bad arguments"));

        let mark = console.mark();
        console.push(b"start\r\nPacket forwarding already started\ntestpmd> ");
        let reply = console.reply(mark).unwrap();
        assert_eq!(refusal(&reply), None);
        assert_eq!(reply, "start\nPacket forwarding already started\n");
    }

    #[test]
    fn a_rate_that_is_not_set_has_a_reason() {
        assert_eq!(refused_rate("set port 0 queue 0 rate 100\n"), None);
        let none = refused_rate(
            "set port 0 queue 0 rate 100\nrte_eth_set_queue_rate_limit for port_id=0 failed diag=-95\n",
        );
        assert!(none.unwrap().contains("no rate limit"));
        let high = refused_rate("x\nInvalid rate value:20000 bigger than link speed: 10000\n").unwrap();
        assert!(high.starts_with("Invalid rate"), "{high}");
    }

    #[test]
    fn the_tail_has_no_empty_lines_and_no_prompts() {
        let mut console = Console::default();
        console.push(b"one\r\n\r\ntwo\r\nthree\ntestpmd> ");
        assert_eq!(console.tail(2), ["two", "three"]);
    }

    #[test]
    fn endless_output_is_dropped_but_prompts_are_not_lost() {
        let mut console = Console::default();
        let mark = console.mark();
        for _ in 0..40 {
            console.push(&[b'x'; 32 * 1024]);
        }
        console.push(b"\ntestpmd> ");
        assert!(console.text.len() <= 2 * KEPT + 10);
        assert!(console.reply(mark).is_some());
    }
}
