// The JavaScript client on a running pod: exec over WebSocket v5, attach's relatives, logs that are followed, port-forward.

import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const { NAMESPACE: namespace, POD: pod } = process.env;
const config = new k8s.KubeConfig();
config.loadFromDefault();

const collect = (stream) => {
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString();
};
const within = (what, promise) =>
  Promise.race([promise, new Promise((_, reject) => setTimeout(() => reject(new Error(`${what}: not done`)), 60_000).unref())]);

const exec = async (command, stdin) => {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const [out, err] = [collect(stdout), collect(stderr)];
  let socket;
  const status = await within(command.join(' '), new Promise((resolve, reject) => {
    new k8s.Exec(config).exec(namespace, pod, 'main', command, stdout, stderr, stdin, false, resolve).then((s) => (socket = s), reject);
  }));
  assert.equal(socket.protocol, 'v5.channel.k8s.io');
  return { status, out: out(), err: err() };
};

const plain = await exec(['sh', '-c', 'echo out; echo err >&2'], null);
assert.deepEqual([plain.status.status, plain.out, plain.err], ['Success', 'out\n', 'err\n']);

// The end of the input is seen by the command: only v5 can say it.
const counted = await exec(['wc', '-c'], Readable.from([Buffer.alloc(1_000_000), Buffer.alloc(234_567)]));
assert.deepEqual([counted.status.status, counted.out.trim()], ['Success', '1234567']);

const failed = await exec(['sh', '-c', 'exit 7'], null);
assert.equal(failed.status.status, 'Failure');
assert.equal(failed.status.reason, 'NonZeroExitCode');
assert.deepEqual(failed.status.details.causes, [{ reason: 'ExitCode', message: '7' }]);

const lines = new PassThrough();
const logged = new Promise((resolve) => lines.once('data', resolve));
const following = await new k8s.Log(config).log(namespace, pod, 'main', lines, { follow: true, tailLines: 1 });
assert.ok((await within('a line of the log', logged)).length > 0);
following.abort();

const [input, output, errors] = [new PassThrough(), new PassThrough(), new PassThrough()];
const answer = collect(output);
const forwarded = await new k8s.PortForward(config).portForward(namespace, pod, [8080], output, errors, input);
input.write('GET /index.html HTTP/1.0\r\nHost: pod\r\n\r\n');
await within('the forwarded port', new Promise((resolve) => {
  output.on('data', () => /served by busybox/.test(answer()) && resolve());
}));
assert.match(answer(), /200 OK/);
forwarded.close();
process.exit(0);
