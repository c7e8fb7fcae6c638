//! The libraries.

use super::check;

#[test]
fn times_and_durations() {
    check(&[
        ("timestamp('2024-02-29T12:34:56.789Z').getFullYear()", "2024"),
        ("timestamp('2024-02-29T12:34:56Z').getMonth()", "1"),
        ("timestamp('2024-02-29T12:34:56Z').getDate()", "29"),
        ("timestamp('2024-02-29T12:34:56Z').getDayOfMonth()", "28"),
        ("timestamp('2024-02-29T12:34:56Z').getDayOfWeek()", "4"),
        ("timestamp('2024-02-29T12:34:56Z').getDayOfYear()", "59"),
        ("timestamp('2024-02-29T12:34:56.789Z').getMilliseconds()", "789"),
        ("timestamp('2024-02-29T23:00:00Z').getHours('+02:00')", "1"),
        ("timestamp('2024-07-01T12:00:00Z').getHours('Europe/Berlin')", "14"),
        ("timestamp('2024-07-01T12:00:00Z').getHours('Nowhere/Land')", "error: unknown time zone Nowhere/Land"),
        ("duration('1h30m').getMinutes()", "90"),
        ("string(duration('1h30m'))", r#""5400s""#),
        ("duration('1h') + duration('30m') == duration('90m')", "true"),
        ("string(timestamp('2024-01-01T00:00:00Z') + duration('24h'))", r#""2024-01-02T00:00:00Z""#),
        ("timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')", "true"),
        ("timestamp('2024-01-01T00:00:00Z') < timestamp('2025-01-01T00:00:00Z')", "true"),
        ("timestamp(0) == timestamp('1970-01-01T00:00:00Z')", "true"),
        ("timestamp('9999-12-30T00:00:00Z') + duration('48h')", "error: timestamp overflow"),
        ("timestamp('soon')", "ERROR: <input>:1:11: invalid timestamp argument\n | timestamp('soon')\n | ..........^"),
        ("duration('soon')", "ERROR: <input>:1:10: invalid duration argument\n | duration('soon')\n | .........^"),
        ("duration(x.s)", "error: time: invalid duration \"héllo\""),
    ]);
}

#[test]
fn text() {
    check(&[
        ("x.s.contains('llo') && x.s.startsWith('h') && x.s.endsWith('o')", "true"),
        ("x.s.charAt(1)", r#""é""#),
        ("x.s.charAt(5)", r#""""#),
        ("x.s.charAt(6)", "error: index out of range: 6"),
        ("x.s.indexOf('l')", "2"),
        ("x.s.indexOf('l', 3)", "3"),
        ("x.s.indexOf('z')", "-1"),
        ("x.s.lastIndexOf('l')", "3"),
        ("x.s.lastIndexOf('l', 2)", "2"),
        ("x.s.substring(1)", r#""éllo""#),
        ("x.s.substring(1, 3)", r#""él""#),
        ("x.s.substring(3, 1)", "error: invalid substring range. start: 3, end: 1"),
        ("'aXbX'.replace('X', '-')", r#""a-b-""#),
        ("'aXbX'.replace('X', '-', 1)", r#""a-bX""#),
        ("'ab'.replace('', '_')", r#""_a_b_""#),
        ("'a,b,c'.split(',')", r#"["a","b","c"]"#),
        ("'a,b,c'.split(',', 2)", r#"["a","b,c"]"#),
        ("'a,b,c'.split(',', 0)", "[]"),
        ("'abc'.split('')", r#"["a","b","c"]"#),
        ("'abc'.split('', 2)", r#"["a","bc"]"#),
        ("['a', 'b'].join('-') + ['c'].join()", r#""a-bc""#),
        ("' a '.trim() + 'Ab'.lowerAscii() + 'Ab'.upperAscii()", r#""aabAB""#),
        ("strings.quote('a\"b\\n')", r#""\"a\\\"b\\n\"""#),
        (
            "'%s is %d, %.2f, %x, %b, %o, %e, %%'.format(['a', 5, 1.239, 255, 5, 8, 12345.678])",
            r#""a is 5, 1.24, ff, 101, 10, 1.234568e+04, %""#,
        ),
        ("'%s %s %s'.format([[1, 'a'], {'k': 1.5}, duration('1s')])", r#""[1, a] {k: 1.5} 1s""#),
        ("'%s %s'.format([x.l, null])", r#""[1, 2, 3] null""#),
        ("'%d'.format(['a'])", "error: error during formatting: decimal clause can only be used on integers, was given string"),
        ("'%s'.format([])", "error: index 0 out of range"),
        ("'abc'.matches('^a.c$') && matches('abc', 'b')", "true"),
        ("'abc'.matches('(')", "ERROR: <input>:1:15: invalid matches argument\n | 'abc'.matches('(')\n | ..............^"),
        ("'abc 123 def 45'.find('[0-9]+')", r#""123""#),
        ("'abc 123 def 45'.findAll('[0-9]+')", r#"["123","45"]"#),
        ("'abc 123 def 45'.findAll('[0-9]+', 1)", r#"["123"]"#),
        (
            "'abc'.reverse()",
            "ERROR: <input>:1:14: undeclared reference to 'reverse' (in container '')\n | 'abc'.reverse()\n | .............^",
        ),
    ]);
}

#[test]
fn lists_and_sets() {
    check(&[
        ("[1, 2, 3].isSorted() && !['b', 'a'].isSorted()", "true"),
        ("[1, 2, 3].sum() + [4].min() + [5, 6].max()", "16"),
        ("[1.5, 2.5].sum()", "4.0"),
        ("[duration('1s'), duration('2s')].sum() == duration('3s')", "true"),
        ("['a', 'b', 'a'].indexOf('a') + ['a', 'b', 'a'].lastIndexOf('a')", "2"),
        ("x.l.indexOf(9)", "-1"),
        ("dyn([]).min()", "error: min called on empty list"),
        ("x.s.indexOf('o')", "4"),
        ("sets.contains([1, 2, 3], [2, 3])", "true"),
        ("sets.intersects([1, 2], [2, 9])", "true"),
        ("sets.equivalent([1, 2, 2], [2, 1])", "true"),
        (
            "sets.contains([1], ['a'])",
            "ERROR: <input>:1:14: found no matching overload for 'sets.contains' applied to '(list(int), list(string))'\n | sets.contains([1], ['a'])\n | .............^",
        ),
    ]);
}

#[test]
fn kubernetes_types() {
    check(&[
        ("quantity('1.5Gi').isLessThan(quantity('2Gi'))", "true"),
        ("quantity('500m').add(quantity('500m')).asInteger()", "1"),
        ("quantity('50k').sub(20000) == quantity('30k')", "true"),
        ("quantity('1').compareTo(quantity('2'))", "-1"),
        ("quantity('1.5').isInteger()", "false"),
        ("quantity('1.5').asApproximateFloat()", "1.5"),
        ("quantity('-5').sign()", "-1"),
        ("isQuantity('10x') || isQuantity('')", "false"),
        ("quantity('1000m') == quantity('1')", "true"),
        ("ip('10.0.0.1').family() == 4 && ip('::1').isLoopback()", "true"),
        ("isIP('10.0.0.256')", "false"),
        ("ip.isCanonical('2001:0db8::1')", "false"),
        ("string(ip('2001:0db8::1'))", r#""2001:db8::1""#),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", "true"),
        ("cidr('10.0.0.0/8').containsIP(ip('11.1.2.3'))", "false"),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"),
        ("cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')", "true"),
        ("cidr('10.1.2.3/8').prefixLength()", "8"),
        ("string(cidr('10.1.2.3/8').ip())", r#""10.1.2.3""#),
        ("isCIDR('10.0.0.0/33')", "false"),
        ("cidr('::/0').containsIP('::1')", "true"),
        ("url('https://example.com:80/path?k=v&k=w').getHost()", r#""example.com:80""#),
        ("url('https://example.com:80/').getHostname() + url('https://[::1]:80/').getPort()", r#""example.com80""#),
        ("url('https://a/b c').getEscapedPath()", r#""/b%20c""#),
        ("url('https://a/?k=v&k=w').getQuery()['k']", r#"["v","w"]"#),
        ("url('/path').getScheme()", r#""""#),
        ("isURL('not a url') || isURL('../up')", "false"),
        ("semver('1.2.3').isLessThan(semver('1.10.0'))", "true"),
        ("semver('1.0.0-alpha.2').compareTo(semver('1.0.0-alpha.10'))", "-1"),
        ("semver('1.0.0-rc1').isLessThan(semver('1.0.0'))", "true"),
        ("semver('1.2.3').major() * 100 + semver('1.2.3').minor() * 10 + semver('1.2.3').patch()", "123"),
        ("isSemver('v1.0') || isSemver('01.0.0')", "false"),
        ("semver('v01.1', true) == semver('1.1.0')", "true"),
        ("format.dns1123Label().validate('a-b').hasValue()", "false"),
        ("format.dns1123Label().validate('A').value().size()", "1"),
        ("format.named('uuid').value().validate('x').value()", r#"["does not match the UUID format"]"#),
        ("format.named('nope').hasValue()", "false"),
        ("format.datetime().validate('2021-01-01T00:00:00Z').hasValue()", "false"),
        ("jsonpatch.escapeKey('a/b~c')", r#""a~1b~0c""#),
        (
            "authorizer.path('/')",
            "ERROR: <input>:1:1: undeclared reference to 'authorizer' (in container '')\n | authorizer.path('/')\n | ^",
        ),
    ]);
}
