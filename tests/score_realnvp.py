"""Runs examples/score_realnvp.py on a model that the library has trained and saved: its scores are the library's.
Usage: score_realnvp.py <realnvp_scores> <root of the sources>. Needs numpy, for the Python that runs it or the one named by
NFLOW_PYTHON; without it, it says so and exits with 77, which Meson shows as skipped."""
import importlib.util
import os
import subprocess
import sys
import tempfile

if os.environ.get('NFLOW_PYTHON') and os.environ['NFLOW_PYTHON'] != sys.executable:
    os.execv(os.environ['NFLOW_PYTHON'], [os.environ['NFLOW_PYTHON'], *sys.argv])
if not importlib.util.find_spec('numpy'):
    print(f'skipped: {sys.executable} has no numpy (NFLOW_PYTHON names another one)')
    sys.exit(77)

program, root = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    model, rows, scores = (os.path.join(folder, name) for name in ('model.safetensors', 'rows.csv', 'scores'))
    subprocess.run([*os.environ.get('NFLOW_EMULATOR', '').split(), os.path.abspath(program), model, rows, scores], check=True)
    text = subprocess.run([sys.executable, os.path.join(root, 'examples/score_realnvp.py'), model, rows], check=True,
                          capture_output=True, text=True).stdout
    with open(scores, encoding='utf-8') as f:
        ours = [float(line) for line in f]
theirs = [float(line) for line in text.split()]
tolerance = 2e-5 if program.endswith('_f32') else 1e-12
worst = max(abs(a - b) / max(1, abs(a)) for a, b in zip(ours, theirs))
assert len(ours) == len(theirs) == 200 and worst <= tolerance, f'{len(theirs)} scores, the worst differs by {worst}'
print(f'ok, the worst differs by {worst:.1e}')
