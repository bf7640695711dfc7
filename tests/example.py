"""What the tests of example programs share: a program is run as a user would run it, on good input and on bad input."""
import json
import os
import re
import subprocess


class Example:
    def __init__(self, path, env=None):
        self.command = [*os.environ.get('NFLOW_EMULATOR', '').split(), os.path.abspath(path)]
        self.name = os.path.basename(path)
        self.env = env

    def run(self, *args, env=None):
        return subprocess.run([*self.command, *map(str, args)], capture_output=True, text=True, env=env or self.env,
                              timeout=250)

    def succeeds(self, *args, env=None):
        """What it prints; it must succeed without a message on stderr."""
        r = self.run(*args, env=env)
        assert r.returncode == 0 and r.stderr == '', f'{args}: exit {r.returncode}\n{r.stdout}{r.stderr}'
        return r.stdout

    def results(self, path, *args):
        """The JSON that it writes to `path`, and what it prints."""
        text = self.succeeds(*args, '--json', path)
        with open(path, encoding='utf-8') as f:
            return json.load(f), text

    def fails(self, status, message, *args, env=None):
        """It must end with this status and one line on stderr, in which the pattern `message` is found."""
        r = self.run(*args, env=env)
        assert r.returncode == status, f'{args}: exit {r.returncode}, expected {status}\n{r.stdout}{r.stderr}'
        assert re.match(rf'{self.name}( \w+)?: [^\n]*\n\Z', r.stderr), f'{args}: {r.stderr}'
        assert re.search(message, r.stderr), f'{args}: "{message}" is not in {r.stderr}'
