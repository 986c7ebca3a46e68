"""What the jobs return: frozen data that show and save themselves (`asrpeft.report.Result`). They run nothing."""
