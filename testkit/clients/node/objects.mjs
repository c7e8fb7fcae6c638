// The JavaScript client on ordinary objects: an informer that keeps up, patches, and what errors look like.

import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';

const namespace = process.env.NAMESPACE;
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);

const seen = [];
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, () => core.listNamespacedConfigMap({ namespace }));
for (const event of ['add', 'update', 'delete']) {
  informer.on(event, (object) => object.metadata.name.startsWith('node-') && seen.push(`${event} ${object.metadata.name}`));
}
let stopped = false;
informer.on('error', (error) => stopped || assert.fail(error));
const until = async (what, check) => {
  for (const end = Date.now() + 60_000; !check(); ) {
    assert.ok(Date.now() < end, `${what}: ${seen}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'node-before' }, data: { a: '1' } } });
await informer.start();
await until('what was there before', () => seen.includes('add node-before'));
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'node-after' } } });
await core.patchNamespacedConfigMap(
  { namespace, name: 'node-before', body: { data: { b: '2' } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.StrategicMergePatch),
);
await core.deleteNamespacedConfigMap({ namespace, name: 'node-after' });
await until('everything that happened', () => seen.length >= 4);
// To stop is to break off the request, which is told as an error.
stopped = true;
process.on('unhandledRejection', (error) => assert.equal(error.type, 'aborted'));
await informer.stop();
assert.deepEqual(seen.slice().sort(), ['add node-after', 'add node-before', 'delete node-after', 'update node-before']);
assert.deepEqual((await core.readNamespacedConfigMap({ namespace, name: 'node-before' })).data, { a: '1', b: '2' });

// As `kubectl apply` does it, of any kind.
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const spec = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'node-applied', namespace }, data: { a: '1' } };
const applied = await objects.patch(spec, undefined, undefined, 'node', undefined, k8s.PatchStrategy.ServerSideApply);
assert.equal(applied.metadata.managedFields[0].manager, 'node');

const missing = await core.readNamespacedConfigMap({ namespace, name: 'none' }).then(() => assert.fail('it is not there'), (error) => error);
assert.equal(missing.code, 404);
assert.match(String(missing.body), /configmaps \\?"none\\?" not found/);
