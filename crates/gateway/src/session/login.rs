//! AUTH: what a login costs, and what becomes of it.
//!
//! Standards: RFC 4954 §4, §6; RFC 6409 §6.1.

use inrush_metrics::{Family as _, Login};
use inrush_policy::{FailureRefusal, Outcome, Rate};
use inrush_proto::sasl::Credentials;
use inrush_proto::{Path, Reply, Verdict};

use super::Talk;
use crate::watch::Stage;

impl Talk<'_> {
    /// Verifies the credentials and tells the session.
    pub(super) async fn log_in(&mut self, credentials: Credentials) {
        let (login, answer) = self.verify(credentials).await;
        self.core.metrics.count(login);
        match (login, &mut self.secure) {
            // There is no AUTH without TLS.
            (Login::Accepted, Some(secure)) => secure.login = self.core.clock.now(),
            (Login::Accepted | Login::Unavailable, _) => {}
            // Whoever guesses is slowed down; nothing is parsed meanwhile.
            (Login::Refused | Login::Address | Login::User, _) => {
                tracing::info!(listener = self.door.name, client = %self.peer(), reason = login.value(), "login failed");
                self.rest(self.core.settings().timeouts.login_failure_delay).await;
            }
        }
        // As after a rest.
        self.woken_at = 0;
        self.attend();
        self.session.authenticated(answer);
        self.turn_away();
    }

    async fn verify(&self, credentials: Credentials) -> (Login, Result<(), &'static Reply>) {
        let core = self.core;
        // A submission listener without users does not start.
        let Some(logins) = core.logins() else { return (Login::Unavailable, Err(Reply::AUTH_UNAVAILABLE)) };
        let address = self.peer().ip();
        let mut limits = core.settings().budgets.login_failures.clone();
        if self.is_unlimited() {
            limits.per_address = Rate::UNLIMITED;
        }
        let user = inrush_policy::user_key(&credentials.name).unwrap_or_default();
        let attempt = match logins.failures.begin(address, user.as_bytes(), &limits, core.shared_now()) {
            Ok(attempt) => attempt,
            Err(FailureRefusal::PerAddress) => return (Login::Address, Err(Reply::AUTH_FAILURES_ADDRESS)),
            Err(FailureRefusal::PerUser) => return (Login::User, Err(Reply::AUTH_FAILURES_USER)),
        };
        self.place.enter(Stage::Commit, core.clock.recent());
        match core.verifications.verify(&logins.verifier, credentials).await {
            Some(Outcome::Accepted) => {
                logins.failures.succeeded(attempt);
                (Login::Accepted, Ok(()))
            }
            Some(Outcome::Refused) => (Login::Refused, Err(Reply::AUTH_FAILED)),
            // Nothing was learnt about the password.
            None => {
                logins.failures.succeeded(attempt);
                (Login::Unavailable, Err(Reply::AUTH_UNAVAILABLE))
            }
        }
    }

    /// May the user of this session send mail with this reverse-path?
    pub(super) fn sender_verdict(&self, path: Path<'_>) -> Verdict {
        let owned = self.core.logins().is_some_and(|logins| {
            let identity = self.session.identity();
            identity.is_some_and(|identity| logins.verifier.users().may_send_as(&identity.name, path))
        });
        if owned { Verdict::Accept } else { Verdict::Refuse(Reply::SENDER_NOT_OWNED) }
    }
}
