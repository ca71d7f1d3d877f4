<?php

// A sign-up with PHP alone: trigger, status, webhook. php -S 127.0.0.1:PORT signup.php

declare(strict_types=1);

// Ask for a code, and try again with the same key where nobody answered: it is never sent twice.
function send_code(string $phone, string $key): array
{
    $options = [
        'method' => 'POST',
        'header' => [
            'Authorization: Bearer ' . getenv('SENDCODE_TOKEN'),
            'Content-Type: application/json',
            'Idempotency-Key: ' . $key,
        ],
        'content' => json_encode(['phone' => $phone, 'expires_in' => 600]),
        'ignore_errors' => true, // the body of an error is wanted, too
        'timeout' => 5,
    ];
    for ($pause_ms = 200; $pause_ms < 5000; $pause_ms *= 2) {
        $context = stream_context_create(['http' => $options]);
        $body = @file_get_contents(getenv('SENDCODE_URL') . '/v1/codes', false, $context);
        $status = $body === false ? 0 : (int) explode(' ', $http_response_header[0])[1];
        if ($status > 0 && $status < 500) {
            return [$status, json_decode($body, true)];
        }
        usleep($pause_ms * 1000);
    }
    return [502, ['error' => 'sendcode cannot be reached']];
}

// Return the payload of a webhook in the Standard Webhooks format, or null.
function verified(string $body): ?array
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $at = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($id === '' || abs(time() - (int) $at) > 300) {
        return null;
    }
    $secret = base64_decode(preg_replace('/^whsec_/', '', getenv('SENDCODE_WEBHOOK_SECRET')));
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$at.$body", $secret, true));
    foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $given) {
        if (hash_equals($expected, $given)) {
            return json_decode($body, true);
        }
    }
    return null;
}

// What became of the codes, in a file; a real service has a database.
function outcomes(?string $key = null, ?string $state = null): array
{
    $file = fopen(getenv('DATABASE'), 'c+');
    flock($file, LOCK_EX);
    $known = json_decode(stream_get_contents($file) ?: '[]', true);
    if ($key !== null) {
        $known[$key] = $state;
        rewind($file);
        fwrite($file, json_encode($known));
    }
    fclose($file);
    return $known;
}

function answer(int $status, ?array $document = null): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo $document === null ? '' : json_encode($document);
}

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$body = file_get_contents('php://input');
if ($path === '/signup') {
    $form = json_decode($body, true);
    [$status, $job] = send_code($form['phone'], "signup-{$form['user']}");
    answer($status < 300 ? 202 : $status, $job);
} elseif (str_starts_with($path, '/codes/')) {
    answer(200, ['state' => outcomes()['signup-' . basename($path)] ?? 'on its way']);
} elseif ($path === '/webhooks/sendcode') {
    $payload = verified($body);
    if ($payload !== null && $payload['type'] === 'code.ended') {
        outcomes($payload['data']['key'], $payload['data']['state']);
    }
    answer($payload === null ? 400 : 204);
} else {
    answer(404);
}
