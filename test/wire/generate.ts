import fc from 'fast-check';

/** Request bytes: mostly well-formed, with the faults that parsers disagree on sprinkled in. */
export function requestArbitrary(): fc.Arbitrary<Buffer> {
  return fc
    .record({
      method: fc.oneof(
        { weight: 30, arbitrary: fc.constantFrom('POST', 'PUT', 'PATCH', 'GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'LIST', 'SCAN') },
        { weight: 1, arbitrary: fc.constantFrom('get', 'G ET', '', 'FOO', 'LINK', '\tGET', 'GET\0') },
      ),
      separator: rare(' ', fc.constantFrom('  ', '\t', '')),
      target: fc.oneof(
        fc.webPath({ size: 'small' }).map((path) => `/v1${path === '' ? '/x' : path}`),
        fc.constantFrom('/v1/a?b=c', '*', 'http://evil/v1/x', '/v1/%2e%2e/x', '/v1/a b', '/v1/ü', '//v1', '/v1/a#b', '/'),
      ),
      version: rare('HTTP/1.1', fc.constantFrom('HTTP/1.0', 'HTTP/1.2', 'HTTP/2.0', 'http/1.1', 'HTTP/1.10', '')),
      host: rare<string[]>(['Host: a'], fc.constantFrom<string[]>([], ['Host: a', 'Host: b'], ['Host:'], ['Host : a'], ['host: a:8200'])),
      headers: fc.array(headerArbitrary(), { maxLength: 5 }),
      framing: framingArbitrary(),
      eol: rare('\r\n', fc.constantFrom('\n', '\r')),
    })
    .map(({ method, separator, target, version, host, headers, framing, eol }) => {
      const lines = [`${method}${separator}${target}${separator}${version}`, ...host, ...headers, ...framing.headers];
      return Buffer.from(`${lines.join(eol)}${eol}${eol}${framing.body}`, 'latin1');
    });
}

function rare<T>(usual: T, odd: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return fc.oneof({ weight: 60, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: odd });
}

function headerArbitrary(): fc.Arbitrary<string> {
  const name = fc.oneof(
    {
      weight: 12,
      arbitrary: fc.constantFrom(
        'X-Vault-Token',
        'x-vault-namespace',
        'Accept',
        'User-Agent',
        'X-A',
        'Content-Type',
        'Cookie',
        'X_Vault_Token',
        "!#$%&'*+-.^_`|~",
      ),
    },
    { weight: 1, arbitrary: fc.constantFrom('Connection', 'Expect', 'TE', 'Trailer', 'Upgrade') },
  );
  const value = fc.oneof(
    { weight: 8, arbitrary: fc.stringMatching(/^[ -~\x80-\xff]{0,12}$/) },
    {
      weight: 1,
      arbitrary: fc.constantFrom('close', 'keep-alive', '100-continue', 'X-Vault-Token', 'chunked', 'a\tb', 'h2c', '', 'é', '\x7f', 'a\rb', 'a\0b', 'x, y'),
    },
  );
  const fold = fc.constantFrom('', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '\r\n folded', '\r\n\tfolded');
  return fc.tuple(name, rare(': ', fc.constantFrom(':', ' : ', ':\t', ' ', ':  ')), value, fold).map((parts) => parts.join(''));
}

function framingArbitrary(): fc.Arbitrary<{ headers: string[]; body: string }> {
  const text = fc.stringMatching(/^[a-z{}":, ]{0,20}$/);
  const sized = text.map((body) => ({ headers: [`Content-Length: ${body.length}`], body }));
  const chunked = fc
    .record({
      parts: fc.array(
        text.filter((part) => part !== ''),
        { maxLength: 3 },
      ),
      extension: rare('', fc.constantFrom(';a=b', ';a="q r"', ' ', ';', ';a b', ';a=')),
      last: rare('0', fc.constantFrom('000', '0 ', '', '-0')),
      trailer: rare('', fc.constantFrom('X-T: 1\r\n', 'X-Vault-Namespace: ns1\r\n', ' bad\r\n', 'bad\r\n')),
    })
    .map(({ parts, extension, last, trailer }) => ({
      headers: ['Transfer-Encoding: chunked'],
      body: `${parts.map((part) => `${part.length.toString(16)}${extension}\r\n${part}\r\n`).join('')}${last}\r\n${trailer}\r\n`,
    }));
  const odd = fc.constantFrom<{ headers: string[]; body: string }>(
    { headers: ['Content-Length: 3', 'Content-Length: 3'], body: 'abc' },
    { headers: ['Content-Length: 3', 'Transfer-Encoding: chunked'], body: '3\r\nabc\r\n0\r\n\r\n' },
    { headers: ['Content-Length: +3'], body: 'abc' },
    { headers: ['Content-Length: 03'], body: 'abc' },
    { headers: ['Content-Length: 3, 3'], body: 'abc' },
    { headers: ['Transfer-Encoding: chunked, identity'], body: '0\r\n\r\n' },
    { headers: ['Transfer-Encoding: xchunked'], body: '0\r\n\r\n' },
    { headers: ['Transfer-Encoding:\r\n chunked'], body: '0\r\n\r\n' },
    { headers: ['Transfer-Encoding: CHUNKED'], body: '0\r\n\r\n' },
    { headers: ['Content-Length: 99999999999999999999'], body: '' },
  );
  return fc.oneof(
    { weight: 6, arbitrary: fc.constant({ headers: [] as string[], body: '' }) },
    { weight: 6, arbitrary: sized },
    { weight: 6, arbitrary: chunked },
    { weight: 1, arbitrary: odd },
  );
}
