"""Runs the commands of docs/tutorial.md in an empty folder and compares what they print and draw with the page.

A block of ```sh is run by bash; what it prints must be the block of ```text behind it. Seconds are not compared. The page
says by which compiler, C library and instruction set it was made. Where they are the same, every digit must be; elsewhere
rounding differs, which training amplifies, so that only words, log-likelihoods of test rows (to 0.1) and how much is
drawn are compared.

Usage: tutorial.py <nflow> <compiler> [--update: write outputs and pictures of this run into docs]"""
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

import png

tool, compiler = os.path.abspath(sys.argv[1]), sys.argv[2]
update = sys.argv[3:] == ['--update']
docs = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'docs')
page = os.path.join(docs, 'tutorial.md')
BLOCK = re.compile(r'```sh\n(.*?)```\n(?:\n```text\n(.*?)```\n)?', re.S)
PICTURE = re.compile(r'!\[[^]]+\]\((tutorial_\w+\.png)\)')
MADE_BY = re.compile(r'\n<!-- Made by (.*) -->\n')
SECONDS, NUMBER = re.compile(r'\d+\.\d seconds'), re.compile(r'-?\d+(\.\d+)?(e[-+]\d+)?')
LIKELIHOOD = re.compile(r'Log-likelihood of a test row: (-?\d+\.\d+)')


def instruction_set():
    """Those that fuse multiplications and additions agree in all bits."""
    best = os.environ.get('NFLOW_ISA', '')
    with open('/proc/cpuinfo', encoding='utf-8') as f:
        fused = 'avx2' in f.read() and best in ('', 'avx2', 'avx512')
    return 'avx2 or avx512' if fused else best or platform.machine()


def run(commands, folder):
    env = {**os.environ, 'PATH': os.path.dirname(tool) + ':' + os.environ['PATH'], 'LC_ALL': 'C'}
    r = subprocess.run(['bash', '-c', 'set -eo pipefail\n' + commands], cwd=folder, env=env, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=200, check=False)
    # a fit that was over before it was to be killed is as good
    output = re.sub(r'^bash: line .*Killed .*\n', '', r.stdout, flags=re.M)
    assert r.returncode == 0, f'{commands}exit {r.returncode}\n{output}'
    return output


def compare(commands, wanted, output, exactly):
    wanted, output = (SECONDS.sub('N seconds', t).replace('killed\n', '') for t in (wanted, output))
    same = output == wanted
    if not exactly:
        far = [abs(float(a) - float(b)) for a, b in zip(LIKELIHOOD.findall(wanted), LIKELIHOOD.findall(output))]
        words = [re.sub(' +', ' ', NUMBER.sub('N', t)) for t in (wanted, output)]
        same = words[0] == words[1] and all(d < 0.1 for d in far)
    assert same, f'{commands}--- docs/tutorial.md (tests/tutorial.py --update renews it):\n{wanted}--- now:\n{output}'


def compare_pictures(name, folder, exactly):
    """Fonts may differ, what is drawn may not; elsewhere as much must be drawn."""
    files = []
    for where in (docs, folder):
        with open(os.path.join(where, name), 'rb') as f:
            files.append(f.read())
    if files[0] == files[1]:
        return
    pictures = [png.decode(f) for f in files]
    assert pictures[0][:3] == pictures[1][:3], f'{name}: {pictures[0][:3]} in docs, {pictures[1][:3]} now'
    a, b = pictures[0][3], pictures[1][3]
    drawn = [sum(abs(x - p[0]) for x in p) for p in (a, b)]
    differ, allowed = abs(drawn[0] - drawn[1]), 0.2 * drawn[0]
    if exactly:  # the densities of winter and summer differ by 0.04 of the way from black to white
        differ, allowed = sum(abs(x - y) for x, y in zip(a, b)), 0.01 * 255 * len(a)
    assert differ < allowed, f'{name}: {differ} differs, {allowed} is allowed'


with open(page, encoding='utf-8') as f:
    text = f.read()
here = f'{compiler}, {" ".join(platform.libc_ver())}, {instruction_set()}'
made_by = MADE_BY.search(text)
exactly = made_by is not None and made_by.group(1) == here
draws = shutil.which('gnuplot') is not None
assert draws or not update, 'there is no gnuplot'
with tempfile.TemporaryDirectory() as folder:
    shutil.copy(os.path.join(docs, 'weather.csv'), folder)
    commands = 0

    def follow(block):
        """Runs a block; what is to stand in its place."""
        global commands
        todo, wanted = block.group(1), block.group(2) or ''
        commands += 1
        if 'nflow plot' in todo and not draws:
            return block.group(0)
        output = run(todo, folder)
        if not update:
            compare(todo, wanted, output, exactly)
        return f'```sh\n{todo}```\n' + (f'\n```text\n{output}```\n' if output else '')

    new = BLOCK.sub(follow, text)
    assert commands > 10, commands
    names = PICTURE.findall(text)
    assert len(names) == 4, names
    for name in names if draws else []:
        if update:
            shutil.copy(os.path.join(folder, name), docs)
        else:
            compare_pictures(name, folder, exactly)
    if update:
        new = MADE_BY.sub('', new) + f'\n<!-- Made by {here} -->\n'
        with open(page, 'w', encoding='utf-8') as f:
            f.write(new)
print(f'tutorial: {"written" if update else "all passed"}, {"every digit" if exactly else "words"} compared')
