"""HL7 version 2: reports that come in, identities that go out, over MLLP."""
