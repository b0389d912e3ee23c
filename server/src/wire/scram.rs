//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), with and without channel binding.
//!
//! It sees no password, only the verifier the catalog keeps. For a role that cannot log in (unknown, without a password, expired)
//! the same exchange is held against a verifier made up from the name and a secret of the process,
//! so that neither the messages nor the time tell the difference.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boathouse_catalog::password::{ITERATIONS, Verifier};
use ring::{digest, hmac};

pub const MECHANISM: &str = "SCRAM-SHA-256";
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// A verifier no password fits, the same for the same name as long as the process lives.
pub fn made_up_verifier(process_secret: &[u8; 32], name: &str) -> Verifier {
    let key = hmac::Key::new(hmac::HMAC_SHA256, process_secret);
    let derive = |purpose: &str| {
        let mut bytes = [0; 32];
        let derived = hmac::sign(&key, format!("{purpose}\0{name}").as_bytes());
        bytes.copy_from_slice(derived.as_ref());
        bytes
    };
    Verifier {
        iterations: ITERATIONS,
        salt: derive("salt")[..16].to_vec(),
        stored_key: derive("stored key"),
        server_key: derive("server key"),
    }
}

/// Why an exchange ended without a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramError {
    /// The client does not speak SCRAM as agreed.
    Protocol(&'static str),
    /// It does, and the password is wrong.
    WrongPassword,
}

/// After the client's first message.
pub struct Challenge {
    verifier: Verifier,
    /// What the client has to repeat as its channel binding.
    binding: Vec<u8>,
    nonce: String,
    client_first_bare: String,
    server_first: String,
}

impl Challenge {
    /// `certificate_hash` is of the server's certificate, when the connection has TLS and the client
    /// was offered [`MECHANISM_PLUS`].
    pub fn new(
        mechanism: &str,
        client_first: &str,
        verifier: Verifier,
        certificate_hash: Option<&[u8]>,
        server_nonce: &str,
    ) -> Result<Self, ScramError> {
        let malformed = ScramError::Protocol("malformed SCRAM message");
        let (flag, rest) = client_first.split_once(',').ok_or(malformed.clone())?;
        let (authorization, bare) = rest.split_once(',').ok_or(malformed.clone())?;
        if !authorization.is_empty() && !authorization.starts_with("a=") {
            return Err(malformed);
        }
        let mut binding = format!("{flag},{authorization},").into_bytes();
        match (mechanism, flag, certificate_hash) {
            (MECHANISM_PLUS, "p=tls-server-end-point", Some(hash)) => {
                binding.extend_from_slice(hash);
            }
            (MECHANISM_PLUS, _, _) => {
                return Err(ScramError::Protocol(
                    "unsupported SCRAM channel-binding type",
                ));
            }
            // The client believes we cannot bind, although it was offered: somebody sits between.
            (MECHANISM, "y", Some(_)) => {
                return Err(ScramError::Protocol(
                    "SCRAM channel binding negotiation error",
                ));
            }
            (MECHANISM, "n" | "y", _) => {}
            _ => return Err(malformed),
        }
        let client_nonce = bare
            .split(',')
            .find_map(|attribute| attribute.strip_prefix("r="))
            .filter(|nonce| !nonce.is_empty())
            .ok_or(malformed.clone())?;
        if bare.starts_with("m=") {
            return Err(ScramError::Protocol(
                "client requires an unsupported SCRAM extension",
            ));
        }
        let nonce = format!("{client_nonce}{server_nonce}");
        let server_first = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&verifier.salt),
            verifier.iterations
        );
        Ok(Self {
            verifier,
            binding,
            nonce,
            client_first_bare: bare.to_owned(),
            server_first,
        })
    }

    /// `server-first-message`.
    pub fn message(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's proof and gives `server-final-message`, the server's own.
    pub fn finish(self, client_final: &str) -> Result<String, ScramError> {
        let malformed = ScramError::Protocol("malformed SCRAM message");
        let (without_proof, proof) = client_final.rsplit_once(",p=").ok_or(malformed.clone())?;
        let proof = STANDARD.decode(proof).map_err(|_| malformed.clone())?;
        let mut attributes = without_proof.split(',');
        let binding = attributes
            .next()
            .and_then(|attribute| attribute.strip_prefix("c="))
            .and_then(|binding| STANDARD.decode(binding).ok())
            .ok_or(malformed.clone())?;
        if binding != self.binding {
            return Err(ScramError::Protocol("SCRAM channel binding check failed"));
        }
        let nonce = attributes
            .next()
            .and_then(|attribute| attribute.strip_prefix("r="));
        if nonce != Some(self.nonce.as_str()) || proof.len() != 32 {
            return Err(malformed);
        }
        let message = format!(
            "{},{},{without_proof}",
            self.client_first_bare, self.server_first
        );
        let stored = hmac::Key::new(hmac::HMAC_SHA256, &self.verifier.stored_key);
        let signature = hmac::sign(&stored, message.as_bytes());
        let client_key: Vec<u8> = proof
            .iter()
            .zip(signature.as_ref())
            .map(|(proof, sign)| proof ^ sign)
            .collect();
        let found = digest::digest(&digest::SHA256, &client_key);
        if !same(found.as_ref(), &self.verifier.stored_key) {
            return Err(ScramError::WrongPassword);
        }
        let server = hmac::Key::new(hmac::HMAC_SHA256, &self.verifier.server_key);
        let signature = hmac::sign(&server, message.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature.as_ref())))
    }
}

/// Compares in the same time wherever the difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    let difference = one
        .iter()
        .zip(other)
        .fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677: user `user`, password `pencil`.
    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn exchange(client_final: &str) -> Result<String, ScramError> {
        let challenge = Challenge::new(
            MECHANISM,
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            Verifier::parse(VERIFIER).unwrap(),
            None,
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        )?;
        assert_eq!(
            challenge.message(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        challenge.finish(client_final)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let answer = exchange(
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        );
        assert_eq!(
            answer.as_deref(),
            Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        );
    }

    #[test]
    fn a_wrong_proof_nonce_or_binding_is_refused() {
        assert_eq!(
            exchange(
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=aHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            ),
            Err(ScramError::WrongPassword)
        );
        assert_eq!(
            exchange("c=biws,r=other,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
            Err(ScramError::Protocol("malformed SCRAM message"))
        );
        assert_eq!(
            exchange("c=eSws,r=x,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
            Err(ScramError::Protocol("SCRAM channel binding check failed"))
        );
    }

    #[test]
    fn a_downgrade_is_noticed() {
        let verifier = Verifier::parse(VERIFIER).unwrap();
        let challenge = Challenge::new(MECHANISM, "y,,n=,r=abc", verifier, Some(b"hash"), "def");
        assert_eq!(
            challenge.err(),
            Some(ScramError::Protocol(
                "SCRAM channel binding negotiation error"
            ))
        );
    }
}
