"""The verbs: every file here is found (`asrpeft.cli.verb`)."""
