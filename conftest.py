pytest_plugins = ["pytest_rllm.plugin", "pytester"]
