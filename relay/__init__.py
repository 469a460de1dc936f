"""The relay: a public, blind service that moves what it cannot read (docs/spec/relay-http.md)."""
