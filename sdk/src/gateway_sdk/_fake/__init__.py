"""The parts of the gateway in memory, `gateway_sdk.testing.FakeGateway`."""
