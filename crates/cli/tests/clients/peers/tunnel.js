// Upgrades by Node's clients: HTTP/1 `Upgrade`, HTTP/2 extended CONNECT (RFC 8441). The plan as in client.js; a path
// with `frames` leads to a WebSocket server, the others to origin.js, which echoes bytes.
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const http = require('http');
const http2 = require('http2');

const CASE_LIMIT_MS = 15_000;
const KEY = crypto.randomBytes(16).toString('base64');
const FIELDS = { 'sec-websocket-version': '13', 'sec-websocket-key': KEY };

/** The tunnel as a stream of both directions, and what ends its connection. */
function open(path, { protocol = 'websocket', target = '/tunnel', fields = FIELDS } = {}) {
  const url = new URL(path.url);
  return new Promise((resolve, reject) => {
    if (path.http2) {
      const session = http2.connect(path.url);
      session.on('error', reject);
      const begin = () => {
        const stream = session.request({
          ':method': 'CONNECT', ':protocol': protocol, ':path': target, ...fields,
        }, { endStream: false });
        stream.on('error', reject);
        stream.on('response', (headers) => {
          resolve({ stream, status: headers[':status'], headers, close: () => session.destroy() });
        });
      };
      // Only after the server's settings may extended CONNECT be used.
      session.once('remoteSettings', (settings) => {
        if (settings.enableConnectProtocol) begin();
        else reject(new Error('no SETTINGS_ENABLE_CONNECT_PROTOCOL'));
      });
    } else {
      const request = http.request({
        host: url.hostname, port: url.port, path: target, headers: { connection: 'Upgrade', upgrade: protocol, ...fields },
      });
      request.on('error', reject);
      request.on('upgrade', (response, socket, head) => {
        if (head.length > 0) socket.unshift(head);
        socket.on('error', () => {});
        resolve({ stream: socket, status: response.statusCode, headers: response.headers, close: () => socket.destroy() });
      });
      request.on('response', (response) => {
        response.resume();
        resolve({ stream: response, status: response.statusCode, headers: response.headers, close: () => response.destroy() });
      });
      request.end();
    }
  });
}

/** This many bytes of the stream. */
function take(stream, count) {
  return new Promise((resolve, reject) => {
    const parts = [];
    let have = 0;
    const more = (part) => {
      parts.push(part);
      have += part.length;
      if (have < count) return;
      stream.off('data', more);
      resolve(Buffer.concat(parts));
    };
    stream.on('data', more);
    stream.once('error', reject);
    stream.once('end', () => reject(new Error(`ended after ${have} of ${count} bytes`)));
  });
}

/** A masked text frame of up to 125 bytes. */
function frame(text) {
  const mask = crypto.randomBytes(4);
  const payload = Buffer.from(text).map((byte, i) => byte ^ mask[i % 4]);
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length]), mask, payload]);
}

/** A tunnel that must come to be. */
async function through(path, options) {
  const tunnel = await open(path, options);
  assert.strictEqual(tunnel.status, path.http2 ? 200 : 101);
  return tunnel;
}

const echoes = {
  async 'bytes in turns'(path) {
    const { stream, close } = await through(path);
    for (let turn = 0; turn < 50; turn++) {
      stream.write(`turn ${turn}`);
      assert.strictEqual(String(await take(stream, `turn ${turn}`.length)), `turn ${turn}`);
    }
    close();
  },
  async '2 MiB both ways at once'(path) {
    const { stream, close } = await through(path);
    const sent = crypto.randomBytes(2 * 1024 * 1024);
    const back = take(stream, sent.length);
    stream.write(sent);
    assert.ok((await back).equals(sent));
    close();
  },
  async 'the end of one side reaches the other'(path) {
    const { stream, close } = await through(path);
    stream.write('last words');
    const heard = take(stream, 10);
    const ended = new Promise((resolve) => stream.once('end', resolve));
    await heard;
    stream.end();
    stream.resume();
    await ended;
    close();
  },
  async 'an upgrade nobody allowed is refused'(path) {
    const { status, close } = await open(path, { protocol: 'other' });
    assert.strictEqual(status, 403);
    close();
  },
};

const frames = {
  async 'WebSocket frames'(path) {
    const { stream, headers, close } = await through(path, { target: '/chat' });
    const proof = crypto.createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    assert.strictEqual(headers['sec-websocket-accept'], proof);
    await chat(stream);
    close();
  },
  /** RFC 8441 section 5: Sec-WebSocket-Key is not used over HTTP/2; the server, which speaks HTTP/1, insists on one. */
  async 'WebSocket frames as browsers send them over HTTP/2'(path) {
    const { stream, close } = await through(path, { target: '/chat', fields: { 'sec-websocket-version': '13' } });
    await chat(stream);
    close();
  },
};

async function chat(stream) {
  for (const text of ['hello', 'again']) {
    stream.write(frame(text));
    const back = await take(stream, 2 + text.length);
    assert.deepStrictEqual([back[0], back[1], String(back.subarray(2))], [0x81, text.length, text]);
  }
}

async function run(path, name, test) {
  const found = { path: path.name, name };
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no end in time')), CASE_LIMIT_MS);
  });
  try {
    await Promise.race([test(path), late]);
  } catch (error) {
    found.why = String(error.message || error);
  }
  clearTimeout(timer);
  console.log(JSON.stringify(found));
}

process.on('unhandledRejection', () => {});
process.on('uncaughtException', (error) => console.log(JSON.stringify({ path: 'client', name: 'uncaught', why: error.stack })));
(async () => {
  for (const path of JSON.parse(process.argv[2])) {
    const list = Object.entries(path.frames ? frames : echoes).filter(([name]) => path.http2 || !name.includes('HTTP/2'));
    await Promise.all(list.map(([name, test]) => run(path, name, test)));
  }
  process.exit(0);
})();
