"""The far side of the wire, on this machine: carriers and vendors that speak their real protocol, strictly.

`LoopbackTwilioCarrier` (in `twilio_carrier`) and `LoopbackTelnyxCarrier` (in `telnyx_carrier`) are for testing agents
without a telephone, in your own continuous integration too: an app is given their `api_base` instead of the carrier's, and
people (`person.Person`) who call, answer, press keys, or let a machine beep. Everything an app does that the real carrier
would refuse, ignore or warn of is in `violations`. `misbehaviour.Misbehaviour` gives the line, webhooks and sockets a bad day.
"""
