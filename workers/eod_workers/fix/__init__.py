"""FIX 4.2 and 4.4 over TCP: frames, fields, the session protocol, an acceptor and an initiator."""
